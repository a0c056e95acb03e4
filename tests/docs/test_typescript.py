"""The TypeScript that clients.md and metrics.md show connects to a network, in Node."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from .consoles import Shell
from .pages import ROOT, blocks_of

CLIENT = ROOT / "clients" / "ts"
BUNDLER = CLIENT / "node_modules" / ".bin" / "esbuild"
# OpenTelemetry is no part of the client: this is as much of it as the page uses, with a span that is always the same.
OPENTELEMETRY = """
export const context = { active: () => ({}) };
export const propagation = {
  inject: (_context: object, carrier: Record<string, string>) => {
    carrier.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  },
};
"""
PROGRAM = """
import { AgentClient } from "PACKAGE/src/node.js";
const url = "http://127.0.0.1:8700";
ABOUT_CLIENTS
console.log(me.group, me.isConnected);
await me.close({ leave: true });
ABOUT_TRACES
const came = client.events();
await client.send("note.page.add", {}, { to: "alice" });
for await (const event of came) {
  console.log(event.metadata.traceparent);
  break;
}
await client.close();
"""


def example(page: str) -> str:
    [text] = [block.text for block in blocks_of(page) if block.language == "ts"]
    return text


@pytest.mark.slow
def test_the_examples_of_the_typescript_client_run(tmp_path: Path) -> None:
    if shutil.which("node") is None or not BUNDLER.exists():
        pytest.skip("needs Node and what the client is built with: npm --prefix clients/ts ci")
    shell = Shell(tmp_path)
    of_clients = example("clients.md").replace("https://agents.example.com", "http://127.0.0.1:8700")
    [password] = re.findall(r'password: "(.*)"', of_clients)
    program = PROGRAM.replace("PACKAGE", str(CLIENT)).replace("ABOUT_CLIENTS", of_clients)
    shell.write("program.ts", program.replace("ABOUT_TRACES", example("metrics.md")))
    shell.write("opentelemetry.ts", OPENTELEMETRY)
    digest = hashlib.sha256(password.encode()).hexdigest()
    shell.write(
        "network.yaml", f"network: {{name: demo, port: 8700}}\nagent_groups: {{editors: {{password_hash: {digest}}}}}\n"
    )
    bundled = shell.run(
        f"{BUNDLER} program.ts --bundle --platform=node --format=esm --external:ws --outfile=program.mjs --log-level=error "
        "--alias:@opentelemetry/api=./opentelemetry.ts"
    )
    assert bundled == ""
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")  # ws, which Node before version 22 needs
    try:
        shell.run("modvisor start")
        said = shell.run("node program.mjs")
    finally:
        shell.run("modvisor stop")
    assert said.split() == ["editors", "true", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"], said
