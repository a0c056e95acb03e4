/** What a case may do to the world around its clients. In a page each call goes to the process that runs the tests. */

import { Network } from "./network.js";
import { Wire } from "./wire.js";

export interface Lab {
  /** Return the address of the network that the cases share. */
  shared(): Promise<string>;
  /** Start a network of the case's own; return its address. */
  own(): Promise<string>;
  restart(url: string): Promise<void>;
  /** Return the address of a wire to a network. */
  wire(url: string): Promise<string>;
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
  readonly #networks = new Map<string, Network>();
  readonly #wires = new Map<string, Wire>();
  #shared: Promise<string> | null = null;

  /** `origin` is that of the pages with cases. */
  constructor(private readonly origin = "http://127.0.0.1:1") {}

  shared(): Promise<string> {
    this.#shared ??= this.own();
    return this.#shared;
  }

  async own(): Promise<string> {
    const network = await Network.start(this.origin);
    this.#networks.set(network.url, network);
    return network.url;
  }

  async restart(url: string): Promise<void> {
    await this.#networks.get(url)!.restart();
  }

  async wire(url: string): Promise<string> {
    const wire = await Wire.to(url);
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
    await Promise.all([...this.#networks.values()].map((network) => network.stop()));
  }
}
