/** A wire between agents and a network that a test can cut or silence: a proxy of TCP connections. */

import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { once } from "node:events";

export class Wire {
  /** Bytes that came from the network. */
  received = 0;
  #pairs = new Set<[Socket, Socket]>();
  #isSilent = false;

  private constructor(
    private readonly server: Server,
    private readonly target: URL,
  ) {
    server.on("connection", (near: Socket) => this.#join(near));
  }

  static async to(url: string): Promise<Wire> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Wire(server, new URL(url));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Break all connections: both sides get a reset. */
  cut(): void {
    for (const pair of this.#pairs) pair.forEach((socket) => socket.resetAndDestroy());
    this.#pairs.clear();
  }

  /** Let nothing through any more, neither bytes nor ends of connections. New connections are open and silent, too. */
  silence(): void {
    this.#isSilent = true;
    for (const pair of this.#pairs) pair.forEach((socket) => socket.pause());
  }

  /** Let new connections through. Those that were silenced stay so. */
  mend(): void {
    this.#isSilent = false;
  }

  async close(): Promise<void> {
    this.cut();
    this.server.close();
    await once(this.server, "close");
  }

  #join(near: Socket): void {
    const far = connect(Number(this.target.port), this.target.hostname);
    const pair: [Socket, Socket] = [near, far];
    this.#pairs.add(pair);
    far.on("data", (bytes) => (this.received += bytes.length));
    pair.forEach((from, index) => this.#forward(from, pair[1 - index]!, pair));
    if (this.#isSilent) pair.forEach((socket) => socket.pause());
  }

  #forward(from: Socket, to: Socket, pair: [Socket, Socket]): void {
    from.setNoDelay(true);
    from.on("data", (bytes) => {
      if (!to.write(bytes)) from.pause();
    });
    to.on("drain", () => this.#isSilent || from.resume());
    from.on("end", () => to.end());
    from.on("error", () => to.destroy());
    from.on("close", () => (to.destroy(), this.#pairs.delete(pair)));
  }
}
