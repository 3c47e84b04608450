"""The agent as a process: options, signals, and `kill -9` for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from tests.support.fake_device import CODE, WEIGHTS, FakeDevice
from tests.support.gateway_site import Site

REPO = Path(__file__).resolve().parents[3]
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: x, user: x}}]
clusters: [{name: x, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: x, user: {token: t}}]
"""


async def _start(*arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **(env or {})},
        cwd=REPO,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _lines_until(process: asyncio.subprocess.Process, wanted: str) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not lines or wanted not in lines[-1]:
            line = await process.stdout.readline()
            assert line, f"ended without {wanted!r}:\n" + "".join(lines)
            lines.append(line.decode())
    return lines


async def test_without_a_cluster_it_keeps_trying_serves_metrics_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    process = await _start(
        *("-m", "tinyml_gateway", "--gateway", "g", "--operator-url", "http://127.0.0.1:1"),
        *("--kubeconfig", str(kubeconfig), "--metrics-port", "0"),
        env={
            "TINYML_GATEWAY_NAMESPACE": "default",
            "TINYML_GATEWAY_STATE_DIR": str(tmp_path / "state"),
        },
    )
    lines = await _lines_until(process, "watch interrupted kind=GatewayDeployment")
    served = next(line for line in lines if "metrics served" in line)
    url = f"http://127.0.0.1:{served.rpartition('port=')[2].strip()}/metrics"
    body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
    assert b'tinyml_gateway_devices{state="running"} 0.0' in body
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"agent stopped gateway=g" in output
    assert b"Traceback" not in output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--report-interval", "0.5", "0.5 is not in the range x>=1.0"),
        ("--parallel", "0", "0 is not in the range 1<=x<=64"),
        ("--log-level", "LOUD", "'LOUD' is none of"),
    ],
)
def test_options_out_of_range_are_refused_with_the_limit(
    tmp_path: Path, option: str, value: str, words: str
) -> None:
    import typer
    from tinyml_gateway.__main__ import main
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(main)
    required = ["--gateway", "g", "--namespace", "n", "--operator-url", "u", "--state-dir"]
    result = CliRunner().invoke(app, [*required, str(tmp_path), option, value])
    assert result.exit_code == 2
    flat = " ".join(result.output.replace("│", " ").split())
    assert words in flat


# The child is a real process with the real store and transports; only its cluster is in memory.
_CHILD = """
    import asyncio, json, sys
    from pathlib import Path
    from tests.support.gateway_site import Site

    async def main():
        given = json.loads(sys.argv[1])
        site = Site(Path(given["folder"]))
        site.addresses = {"a": given["address"]}
        image = site.pair("one", size=30_000)
        await site.want(image, "a")
        site.start()
        await site.until_states("R", timeout_s=30)
        await site.close()
        print("done", flush=True)

    asyncio.run(main())
"""


async def test_kill_9_in_an_upload_loses_nothing_and_sends_nothing_twice(
    tmp_path: Path,
) -> None:
    device = FakeDevice(delay_s=0.01)
    expected = Site(tmp_path).pair("one", size=30_000)
    sizes = {CODE: expected["code"]["sizeBytes"], WEIGHTS: expected["weights"]["sizeBytes"]}
    async with device.on_pty() as address:
        arguments = json.dumps({"folder": str(tmp_path), "address": address})
        child = await _start("-c", textwrap.dedent(_CHILD), arguments)
        async with asyncio.timeout(30):
            while sum(device.written.values()) < sum(sizes.values()) // 2:
                assert child.returncode is None
                await asyncio.sleep(0.002)
        child.kill()
        await child.communicate()
        child = await _start("-c", textwrap.dedent(_CHILD), arguments)
        output, _ = await child.communicate()
    assert output.endswith(b"done\n"), output.decode()
    assert device.running == (expected["code"]["imageHash"], expected["weights"]["imageHash"])
    assert device.written == sizes
    assert device.resets == 1
