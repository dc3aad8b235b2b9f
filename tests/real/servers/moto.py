"""moto: a mock of S3."""

from __future__ import annotations

from typing import ClassVar

from tests.real.servers.s3 import S3
from tests.real.servers.script import Server, need_of_venv


class Moto(Server):
    """A running moto, with the one daemon `moto`; moto.sh says what it is no stand-in for.

    Its objects are in its memory, and gone after `kill9`.
    """

    name: ClassVar[str] = "moto"

    @classmethod
    def need(cls) -> None:
        need_of_venv("moto_server")

    @property
    def s3(self) -> S3:
        return S3(self.env["MOTO_URL"], self.env["MOTO_S3_ACCESS_KEY"], self.env["MOTO_S3_SECRET_KEY"])
