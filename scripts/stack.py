"""PostgreSQL, an S3 server, a store on both and the HTTP server, without containers: `make stack`. Everything is gone
after Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.postgres_server import PgServer  # noqa: E402 - found by the line above
from tests.s3_server import S3Server, rclone_server  # noqa: E402

TRY = """
Try, in another terminal:

    {exports}
    graviton doctor
    graviton put README.md
    graviton ls --long
    graviton get ID -o copy.md
    curl -s --data-binary @README.md {server}/api/blobs
    curl -s {server}/api/stats
    psql "$PG_JDBC_URL"
    curl -s --aws-sigv4 aws:amz:us-east-1:s3 --user "$MINIO_ROOT_USER:$MINIO_ROOT_PASSWORD" \\
        "$QUASAR_MINIO_URL/graviton-blocks?list-type=2&prefix=cas%2Fblocks%2F"

Its interface: {server}/api/docs. Ctrl-C ends all servers and removes everything.
"""


def environment(postgres: PgServer, s3: S3Server, folder: str) -> dict[str, str]:
    """What the seeds' deployments set."""
    return {
        "GRAVITON_BLOB_BACKEND": "minio",
        "QUASAR_MINIO_URL": s3.endpoint,
        "MINIO_ROOT_USER": s3.access_key,
        "MINIO_ROOT_PASSWORD": s3.secret_key,
        "GRAVITON_METADATA": "postgres",
        "PG_JDBC_URL": f"postgresql://graviton@/postgres?host={postgres.folder}",
        "GRAVITON_FS_ROOT": folder,
    }


def started(variables: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """The HTTP server, and its address. It goes on while Ctrl-C is for this process, which ends it."""
    print("$ graviton serve --port 0", flush=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "graviton.cli.main", "--json", "serve", "--port", "0"],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())["listening"]


def main() -> int:
    """The program."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print("starting PostgreSQL and an S3 server …", flush=True)
    with tempfile.TemporaryDirectory(prefix="graviton-stack-") as folder:
        server = None
        postgres = PgServer("18", "fsync = on\nfull_page_writes = on\n")
        try:
            variables = environment(postgres, rclone_server(), folder)
            for command in (["db", "migrate"], ["store", "init"], ["doctor"]):
                print(f"$ graviton {' '.join(command)}", flush=True)
                done = subprocess.run(
                    [sys.executable, "-m", "graviton.cli.main", *command], env=os.environ | variables, check=False
                )
                if done.returncode:
                    return done.returncode
            server, url = started(variables)
            exports = "\n    ".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
            print(TRY.format(exports=exports, server=url), flush=True)
            signal.pause()
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever presses it twice must not keep it from tidying up
            if server is not None:
                server.terminate()
                server.wait()
            postgres.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
