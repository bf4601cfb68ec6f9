"""Runs in the chroot: the handler of `persist` on its asynchronous driver, over Python's own `ssl`.

Arguments: port, directory of the PEM files, name of the client's certificate or `-` for none.
Writes a line of JSON: what was read back, or the error.
"""

import asyncio
import json
import ssl
import sys

from pymongo.errors import PyMongoError

from persist.motor_db_handler import MotorDBHandler


async def main(port: str, directory: str, client: str) -> dict[str, object]:
    """Insert a document and read it back, or tell why not."""
    shown = {} if client == "-" else {"tlsCertificateKeyFile": f"{directory}/{client}-both.pem"}
    uri = f"mongodb://127.0.0.1:{port}/?tls=true&directConnection=true"
    try:
        handler = await MotorDBHandler.new(
            uri,
            "love_currency_db",
            tlsCAFile=f"{directory}/ca.pem",
            serverSelectionTimeoutMS=3_000,
            **shown,
        )
        await handler.insert_one("post_quantum", {"_id": "a", "amount": 7})
        found = await handler.find_one("post_quantum", {"_id": "a"})
        await handler.close()
    except PyMongoError as error:
        return {"error": str(error)}
    return {"found": found, "openssl": ssl.OPENSSL_VERSION}


sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))) + "\n")
