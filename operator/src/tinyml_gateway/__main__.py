"""`python -m tinyml_gateway`: the agent as a process; options, or TINYML_GATEWAY_* variables.

SIGTERM and SIGINT end it within 5 s; what was in hand is taken up by the next start.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tinyml_gateway.agent import Options

POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
ENV = "TINYML_GATEWAY_"

logger = logging.getLogger("tinyml_gateway")


def main(
    gateway: Annotated[str, typer.Option(envvar=ENV + "NAME", help="EdgeGateway to serve.")],
    namespace: Annotated[str, typer.Option(envvar=ENV + "NAMESPACE", help="Its namespace.")],
    operator_url: Annotated[
        str, typer.Option(envvar=ENV + "OPERATOR_URL", help="Where /artifacts is served.")
    ],
    state_dir: Annotated[
        Path,
        typer.Option(envvar=ENV + "STATE_DIR", help="Folder for state and artifacts; keep it."),
    ],
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar=ENV + "KUBECONFIG", help="Default: the pod's ServiceAccount."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar=ENV + "TOKEN_FILE",
            help=f"Token for the operator, read before each download. Default: {POD_TOKEN}.",
        ),
    ] = None,
    report_interval: Annotated[
        float,
        typer.Option(
            envvar=ENV + "REPORT_INTERVAL", min=1.0, help="Least seconds between status writes."
        ),
    ] = 10.0,
    verify_interval: Annotated[
        float,
        typer.Option(
            envvar=ENV + "VERIFY_INTERVAL", min=1.0, help="Seconds between looks at a device."
        ),
    ] = 60.0,
    parallel: Annotated[
        int,
        typer.Option(
            envvar=ENV + "PARALLEL", min=1, max=64, help="Devices flashed at the same time."
        ),
    ] = 4,
    return_timeout: Annotated[
        float,
        typer.Option(
            envvar=ENV + "RETURN_TIMEOUT", min=1.0, help="Seconds to come back from a reset."
        ),
    ] = 30.0,
    metrics_host: Annotated[
        str, typer.Option(envvar=ENV + "METRICS_HOST", help="Address to serve /metrics at.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar=ENV + "METRICS_PORT", min=0, max=65535, help="Port of /metrics; 0: any."
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(envvar=ENV + "LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
) -> None:
    """Bring the devices of one EdgeGateway to what its GatewayDeployment says."""
    from tinyml_gateway.agent import Options
    from tinyml_gateway.rollout import Policy
    from tinyml_gateway.visit import VisitLimits

    levels = logging.getLevelNamesMapping()
    if log_level.upper() not in levels:
        raise typer.BadParameter(f"log level {log_level!r} is none of {', '.join(levels)}")
    logging.basicConfig(
        level=levels[log_level.upper()], format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # These log whole frames, and every timeout as an error: our own records say what matters.
    for library in ("smp", "smpclient"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if token_file is None and POD_TOKEN.exists():
        token_file = POD_TOKEN
    options = Options(
        policy=Policy(parallel_flash=parallel, verify_s=verify_interval),
        limits=VisitLimits(return_s=return_timeout),
        report_interval_s=report_interval,
    )
    asyncio.run(
        serve(
            gateway,
            namespace,
            operator_url=operator_url,
            state_dir=state_dir,
            kubeconfig=kubeconfig,
            token_file=token_file,
            metrics_address=None if metrics_port is None else (metrics_host, metrics_port),
            options=options,
        )
    )


async def serve(
    gateway: str,
    namespace: str,
    *,
    operator_url: str,
    state_dir: Path,
    kubeconfig: Path | None,
    token_file: Path | None,
    metrics_address: tuple[str, int] | None,
    options: Options,
) -> None:
    """Build the agent from its parts and run it until a signal comes."""
    import aiohttp
    from tinyml_kube.real import KubernetesCluster

    from tinyml_gateway.agent import Agent
    from tinyml_gateway.artifacts import Cache, Downloader
    from tinyml_gateway.metrics import Metrics
    from tinyml_gateway.state import Store

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    cache = Cache(state_dir / "artifacts")
    async with KubernetesCluster(kubeconfig) as cluster, aiohttp.ClientSession() as session:
        with Store(state_dir / "state.sqlite") as store, metrics.serving(metrics_address) as port:
            if port is not None:
                logger.info("metrics served port=%d", port)
            agent = Agent(
                gateway,
                namespace,
                cluster=cluster,
                store=store,
                cache=cache,
                downloader=Downloader(session, operator_url, lambda: _read(token_file), cache),
                metrics=metrics,
                options=options,
            )
            await agent.run(stop)


def _read(token_file: Path | None) -> str | None:
    """Return the token as it is now: projected tokens are renewed in place. Raises OSError."""
    return None if token_file is None else token_file.read_text().strip()


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
