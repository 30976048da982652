# Copyright (c) 2026 chat4all maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is rotated while it is killed: one line for each strategy of each engine, and for each flow without a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deployment import Deployment, Rotated
from serverless import (
    ApiToken,
    Emergency,
    EndedToken,
    PollingBot,
    RenewedToken,
    SigningKeys,
    TokenEndedByApp,
    Webhook,
    WebhookBack,
)


@dataclass(frozen=True)
class Case:
    """A credential, the deployment that has it, the command that rotates it, and what its users may notice."""

    name: str
    catalog: dict[str, dict[str, Any]] = field(default_factory=dict)
    command: tuple[str, ...] = ("rotate-db.yml",)
    # Whether one refused login is a failure; where it is not, they are reported.
    zero_refused: bool = True
    # Each rotation is the first after adoption, in which the image's own user hands over to a login of ours.
    first: bool = False
    deployment: type[Rotated] = Deployment
    credential: str = "postgres"
    # What is counted of its users.
    counted: str = "logins"
    # Whether it is killed at random moments, too.
    at_random: bool = False
    # How many of its points are enough, spread evenly; 0: all.
    sample: int = 0


CASES = {
    case.name: case
    for case in (
        Case("alternating_users", {"postgres": {}}, at_random=True),
        Case("single_user", {"postgres": {"strategy": "single_user"}}, zero_refused=False, at_random=True),
        Case("first_rotation", {"postgres": {}}, first=True),
        Case("jwt_phases", deployment=SigningKeys, credential="jwt", counted="tokens"),
        Case("jwt_emergency", deployment=Emergency, credential="jwt", counted="tokens", zero_refused=False, sample=12),
        Case("whatsapp_token", deployment=ApiToken, credential="whatsapp", counted="calls"),
        Case("whatsapp_ended", deployment=EndedToken, credential="whatsapp", counted="calls"),
        Case("whatsapp_by_app", deployment=TokenEndedByApp, credential="whatsapp", counted="calls", sample=12),
        Case("instagram_token", deployment=RenewedToken, credential="instagram", counted="calls"),
        Case(
            "telegram_polling",
            deployment=PollingBot,
            credential="telegram",
            counted="calls",
            zero_refused=False,
            sample=12,
        ),
        Case("telegram_token", deployment=ApiToken, credential="telegram", counted="updates"),
        Case("telegram_webhook", deployment=Webhook, credential="telegram-webhook", counted="updates"),
        Case("whatsapp_webhook", deployment=Webhook, credential="whatsapp-webhook", counted="verifications"),
        Case(
            "instagram_webhook",
            deployment=Webhook,
            credential="instagram-webhook",
            counted="verifications",
            sample=12,
        ),
        Case("telegram_back", deployment=WebhookBack, credential="telegram-webhook", counted="updates", sample=12),
    )
}
