/** What a case may do to the world around its clients. In a page each call goes to the process that runs the tests. */

import { Network } from "./network.js";
import { Wire } from "./wire.js";

export interface Lab {
  /** Return the address of the network, which the cases share. */
  url(): Promise<string>;
  /** End the network, with all its connections, and start it again. */
  restart(): Promise<void>;
  /** Return the address of a new wire to the network. */
  wire(): Promise<string>;
  cut(wire: string): Promise<void>;
  silence(wire: string): Promise<void>;
  mend(wire: string): Promise<void>;
  /** Return how many bytes came over a wire from its network. */
  received(wire: string): Promise<number>;
  /** Return an address where nobody listens. */
  nowhere(): Promise<string>;
}

/** The lab itself, in the process that runs the tests. */
export class RealLab implements Lab {
  #network: Promise<Network> | null = null;
  readonly #wires = new Map<string, Wire>();

  /** `origin` is that of the pages with cases. */
  constructor(private readonly origin?: string) {}

  async url(): Promise<string> {
    this.#network ??= Network.start(this.origin === undefined ? {} : { origin: this.origin });
    return (await this.#network).url;
  }

  async restart(): Promise<void> {
    await (await this.#network)?.restart();
  }

  async wire(): Promise<string> {
    const wire = await Wire.to(await this.url());
    this.#wires.set(wire.url, wire);
    return wire.url;
  }

  async cut(wire: string): Promise<void> {
    this.#wires.get(wire)!.cut();
  }

  async silence(wire: string): Promise<void> {
    this.#wires.get(wire)!.silence();
  }

  async mend(wire: string): Promise<void> {
    this.#wires.get(wire)!.mend();
  }

  async received(wire: string): Promise<number> {
    return this.#wires.get(wire)!.received;
  }

  async nowhere(): Promise<string> {
    const wire = await Wire.to("http://127.0.0.1:1");
    const { url } = wire;
    await wire.close();
    return url;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#wires.values()].map((wire) => wire.close()));
    await (await this.#network)?.stop();
  }
}
