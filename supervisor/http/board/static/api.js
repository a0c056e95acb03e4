/** The network's API: requests with the session, failures with their cause, streams of lines. */

/**
 * @typedef {object} Session
 * @property {string} who
 * @property {"read" | "operate" | "admin"} scope
 * @property {boolean} payloads whether this operator may see what events carry
 * @property {string} csrf
 * @property {number} expires_at
 * @property {string} network
 * @property {string} version
 */

/** @typedef {{success?: boolean, message?: string, error?: string, data?: any, [key: string]: any}} Answer */

export const V1 = "/admin/v1";

/** @type {Session | null} */
let session = null;
/** @type {() => void} */
let onSignedOut = () => {};

/** What the network refused or could not do. */
export class Failure extends Error {
  /** @param {string} message @param {number} status @param {Answer} body */
  constructor(message, status, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** @returns {Session} */
export function me() {
  if (session === null) throw new Error("nobody is logged in");
  return session;
}

/** Whether this operator may do what needs a scope. @param {"operate" | "admin"} scope */
export function may(scope) {
  const rank = { read: 0, operate: 1, admin: 2 };
  return session !== null && rank[session.scope] >= rank[scope];
}

/** @param {() => void} listener called when the session has ended */
export function whenSignedOut(listener) {
  onSignedOut = listener;
}

/**
 * Go on with the session that the browser has, if it is still one.
 *
 * @returns {Promise<boolean>}
 */
export async function resume() {
  const response = await fetch("/board/session");
  if (!response.ok) return false;
  session = (await response.json()).data;
  return true;
}

/** @param {{token: string} | {link: string}} proof */
export async function login(proof) {
  session = (await ask("POST", "/board/login", proof)).data;
}

export async function logout() {
  await ask("POST", "/board/logout").catch(() => {});
  session = null;
}

/** @param {string} path @returns {Promise<any>} */
export function get(path) {
  return ask("GET", path);
}

/** @param {string} path @param {object} [body] */
export function post(path, body) {
  return ask("POST", path, body);
}

/** @param {string} path */
export function remove(path) {
  return ask("DELETE", path);
}

/** @param {string} id @param {string} [rest] */
export function modPath(id, rest = "") {
  return `${V1}/mods/${encodeURIComponent(id)}${rest}`;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<Answer>}
 */
async function ask(method, path, body) {
  const response = await request(method, path, body);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok)
    throw new Failure(answer.message ?? `the network answered ${response.status}`, response.status, answer);
  return answer;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @param {AbortSignal} [signal]
 */
async function request(method, path, body, signal) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session !== null) headers["X-Modvisor-CSRF"] = session.csrf;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("the network cannot be reached", 0, {});
  }
  if (response.status === 401 && session !== null && path.startsWith(V1)) {
    session = null;
    onSignedOut();
  }
  return response;
}

/**
 * Read a stream of JSON lines until it ends.
 *
 * @param {string} path
 * @param {(line: any) => void} onLine
 * @param {AbortSignal} signal
 */
export async function lines(path, onLine, signal) {
  const response = await request("GET", path, undefined, signal);
  if (!response.ok || response.body === null) {
    const answer = await response.json().catch(() => ({}));
    throw new Failure(answer.message ?? `the network answered ${response.status}`, response.status, answer);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  // A line of a large network comes in many pieces: they are joined once.
  /** @type {string[]} */
  let pieces = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    let begin = 0;
    for (let end = value.indexOf("\n"); end >= 0; end = value.indexOf("\n", begin)) {
      pieces.push(value.slice(begin, end));
      begin = end + 1;
      const line = pieces.join("");
      pieces = [];
      if (line !== "") onLine(JSON.parse(line));
    }
    pieces.push(value.slice(begin));
  }
}

/**
 * Keep a stream open while it is wanted: it is opened again when it broke, and closed while nobody sees the page.
 *
 * @param {string | (() => string)} path
 * @param {(line: any) => void} onLine
 * @param {(problem: string | null) => void} onProblem null when it works (again)
 * @returns {() => void} ends it
 */
export function keepOpen(path, onLine, onProblem) {
  let ended = false;
  /** @type {AbortController | null} */
  let open = null;
  let timer = 0;

  async function run() {
    if (ended || document.hidden) return;
    const mine = (open = new AbortController());
    let problem = "the network closed the stream";
    try {
      await lines(
        typeof path === "string" ? path : path(),
        (line) => {
          if (open !== mine) return;
          onProblem(null);
          onLine(line);
        },
        mine.signal,
      );
    } catch (error) {
      problem = error instanceof Failure ? error.message : "the connection to the network broke";
    }
    if (ended || open !== mine) return;
    open = null;
    if (session === null) return;
    onProblem(problem);
    timer = setTimeout(run, 1000);
  }

  function seen() {
    clearTimeout(timer);
    if (document.hidden) {
      const old = open;
      open = null;
      old?.abort();
    } else if (open === null) run();
  }

  document.addEventListener("visibilitychange", seen);
  run();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    open?.abort();
  };
}
