"""An issuer that changes its signing keys while senders with old and new tokens never rest."""

import asyncio
import itertools
import time
from pathlib import Path

from tests.support.gateway import base_config, run_gateway
from tests.support.issuer import AUDIENCE, run_issuer, signing_key
from tests.support.load import TokenLoad

# How long tokens live, and how long the two kinds of senders keep theirs.
LIFETIME_S, LEEWAY_S = 2, 1
EAGER_S, LAZY_S = 0.3, 1.5


async def test_signing_keys_are_rotated_under_load_without_a_failed_request(tmp_path: Path) -> None:
    keys = [signing_key(f"key-{number}", number=number) for number in range(4)]
    async with run_issuer() as issuer:
        present = keys[0]
        issuer.publish(present)

        def fetch() -> str:
            return present.token(issuer.claims(exp=int(time.time()) + LIFETIME_S))

        config = base_config(tmp_path)
        config["identity"] = [{"oidc": {"issuer": issuer.url, "audience": AUDIENCE, "leeway": f"{LEEWAY_S}s"}}]
        with run_gateway(tmp_path, config) as gateway:
            with TokenLoad(gateway, fetch, [EAGER_S, EAGER_S, LAZY_S, LAZY_S]) as load:
                await asyncio.to_thread(load.wait_for_key, present.kid)
                for old, new in itertools.pairwise(keys):
                    issuer.publish(old, new)
                    present = new
                    await asyncio.to_thread(load.wait_for_key, new.kid)
                    # For a while both are shown.
                    await asyncio.to_thread(load.wait_for_key, old.kid, 1)
                    await asyncio.sleep(LIFETIME_S + LEEWAY_S)
                    issuer.publish(new)
                    await asyncio.to_thread(load.wait_for_key, new.kid)
            assert load.failures == []
            assert set(load.answers) == {"OK"}
            assert set(load.signed_by) == {key.kid for key in keys}
            assert load.answers.total() > 500
            believed = gateway.total("gateway_token_verdicts_total", verdict="believed")
            assert gateway.total("gateway_token_verdicts_total") == believed
            assert gateway.total("gateway_accepted_items_total", tenant="acme") == load.answers.total()
            # The first time, and once a rotation, however many senders came with the new key at once.
            assert issuer.fetches <= len(keys) + 1
            assert gateway.unaccounted() == 0
