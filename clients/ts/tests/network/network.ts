/** A real network in a process of its own: `modvisor run`, with the mod in mods/lab. */

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const HERE = fileURLToPath(new URL("../../../tests/network/", import.meta.url));
const PYTHON = process.env.MODVISOR_PYTHON ?? join(HERE, "../../../../.venv/bin/python");
/** SHA-256 of "open sesame". */
const PASSWORD_HASH = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";

export interface NetworkOptions {
  origin?: string;
  withTls?: boolean;
}

export class Network {
  url = "";
  #process: ChildProcess | null = null;
  #log = "";

  private constructor(private readonly folder: string) {}

  /** Start a network that lets in pages of `origin`, over TLS if it is told to. */
  static async start({ origin = "http://127.0.0.1:1", withTls = false }: NetworkOptions = {}): Promise<Network> {
    const folder = await mkdtemp(join(tmpdir(), "modvisor-ts-"));
    await symlink(join(HERE, "mods"), join(folder, "mods"));
    await writeFile(join(folder, "network.yaml"), networkFile(origin, withTls));
    if (withTls) await promisify(execFile)(PYTHON, ["-m", "trustme", "--quiet", "-d", folder, "-i", "127.0.0.1"]);
    const network = new Network(folder);
    await network.#start(0);
    return network;
  }

  /** File with the certificate of the authority that signed the network's. */
  get authority(): string {
    return join(this.folder, "client.pem");
  }

  /** End the process, with all its connections, and start the network again on the same port. */
  async restart(): Promise<void> {
    await this.#stop("SIGTERM");
    await this.#start(Number(new URL(this.url).port));
  }

  async stop(): Promise<void> {
    await this.#stop("SIGTERM");
    await rm(this.folder, { recursive: true, force: true });
  }

  async #start(port: number): Promise<void> {
    const command = ["-m", "modvisor", "run", join(this.folder, "network.yaml"), "--json", "--port", String(port)];
    const child = spawn(PYTHON, command, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = child;
    child.stderr.setEncoding("utf8").on("data", (text: string) => (this.#log += text));
    for await (const line of createInterface(child.stdout)) {
      const said = JSON.parse(line);
      if (said.happened !== "ready") continue;
      this.url = said.url;
      child.stdout.resume();
      return;
    }
    throw new Error(`the network did not start:\n${this.#log}`);
  }

  async #stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}

function networkFile(origin: string, withTls: boolean): string {
  const tls = withTls ? { cert: "server.pem", key: "server.key" } : null;
  return JSON.stringify({
    network: { name: "lab", host: "127.0.0.1", port: 0, tls },
    http: { origins: [origin], ws_ping: "1s" },
    agent_groups: {
      members: { password_hash: PASSWORD_HASH, permissions: ["agents"] },
      paced: { password_hash: PASSWORD_HASH, quota: { events_per_second: 0.01 } },
    },
    mods: ["./lab"],
  });
}
