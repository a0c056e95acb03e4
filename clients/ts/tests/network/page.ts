/** What the page runs: one case by its name. The lab is in the process that drives the browser. */

import { storedSecret } from "@modvisor/client";

import { Bench, cases } from "./cases.js";
import type { Lab } from "./lab.js";

declare global {
  interface Window {
    /** Calls a method of the lab; added by the process that drives the browser. */
    askLab(method: string, ...given: string[]): Promise<unknown>;
    runCase(name: string): Promise<void>;
  }
}

const lab = new Proxy({} as Lab, {
  get:
    (_, method: string) =>
    (...given: string[]) =>
      window.askLab(method, ...given),
});

window.runCase = async (name) => {
  const bench = new Bench(lab, (key) => storedSecret(key));
  try {
    await cases[name]!(bench);
  } finally {
    await bench.close();
  }
};
