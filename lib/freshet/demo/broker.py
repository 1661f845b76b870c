"""A broker of Kafka of one node (KRaft) on loopback ports, from a folder of jars: for the demo and for tests.

    with Broker(jars, folder) as broker:
        ... broker.address ...

Its data stay in `folder`: `kill` and `start` again is what happens to a machine. Options: https://kafka.apache.org/documentation/
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Self

from freshet.errors import EngineRefused

STARTED = "Kafka Server started"
START_SECONDS = 60.0
# A small heap, and no second compiler: it shares two cores with what is tested.
_JAVA = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info")


class Broker:
    """One node; `address` is host:port of its clients."""

    def __init__(self, jars: Path, folder: Path) -> None:
        if not any(jars.glob("kafka_2.13-*.jar")):
            raise EngineRefused(
                f"There is no broker of Kafka in {jars}.", remedy="`make .venv/kafka/ready` fetches it through Maven.",
                path=str(jars),
            )
        self._jars, self._folder = jars, folder
        self._process: subprocess.Popen[bytes] | None = None
        clients, controller = free_ports(2)
        self.address = f"localhost:{clients}"
        folder.mkdir(parents=True, exist_ok=True)
        self._settings(clients, controller)
        identity = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        chosen = ("-c", str(folder / "server.properties"), "--ignore-formatted")
        self._run("kafka.tools.StorageTool", "format", "-t", identity, *chosen)

    def _settings(self, clients: int, controller: int) -> None:
        lines = {
            "process.roles": "broker,controller", "node.id": "1", "controller.quorum.voters": f"1@localhost:{controller}",
            "listeners": f"PLAINTEXT://localhost:{clients},CONTROLLER://localhost:{controller}",
            "advertised.listeners": f"PLAINTEXT://localhost:{clients}", "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT", "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1", "group.initial.rebalance.delay.ms": "0", "message.max.bytes": str(4 << 20),
            "replica.fetch.max.bytes": str(4 << 20), "auto.create.topics.enable": "false",
        }  # fmt: skip
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self._folder / "server.properties").write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, main: str, *arguments: str) -> list[str]:
        java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if os.environ.get("JAVA_HOME") else shutil.which("java")
        if java is None:
            raise EngineRefused("There is no Java to run Kafka with.", remedy="Install Java 17 or newer.", path="java")
        return [str(java), *_JAVA, "-cp", f"{self._jars}/*", main, *arguments]

    def _run(self, main: str, *arguments: str) -> None:
        done = subprocess.run(self._command(main, *arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineRefused(f"{main} failed: {done.stderr[-500:]}", remedy="See docs/kafka.md.", path=str(self._folder))

    def start(self) -> None:
        """Start the node and wait until it serves. Raises EngineRefused when it does not."""
        log = self._folder / "broker.log"
        with log.open("wb") as out:
            command = self._command("kafka.Kafka", str(self._folder / "server.properties"))
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while STARTED not in log.read_text(encoding="utf-8", errors="replace"):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise EngineRefused(f"The broker did not start; see {log}.", remedy="Is the port taken?", path=str(log))
            time.sleep(0.1)

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process as an operator would."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, each another one."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("localhost", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
