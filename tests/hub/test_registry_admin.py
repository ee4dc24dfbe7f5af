"""Registry and serving in Django's admin: everything can be looked at, nothing changed."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from hub.serving.models import Deployment, Node
from tests.factories.accounts import Person
from tests.factories.registry import published
from tests.factories.serving import serving_node

pytestmark = pytest.mark.django_db


def test_the_admin_shows_and_changes_nothing(owner: Person, client: Client) -> None:
    version = published(owner.workspace)
    serving_node("s1")
    owner.client.post("/api/v1/deployments", {"model": "acme/tickets"})
    client.force_login(get_user_model().objects.create_superuser("root", password="x"))
    for path, item in {
        "registry/model": version.model,
        "registry/modelversion": version,
        "serving/node": Node.objects.get(),
        "serving/deployment": Deployment.objects.get(),
    }.items():
        shown = client.get(f"/admin/{path}/?q=tickets")
        assert shown.status_code == 200
        page = client.get(f"/admin/{path}/{item.pk}/change/")
        assert page.status_code == 200 and b'name="_save"' not in page.content
        assert client.get(f"/admin/{path}/add/").status_code == 403
        assert client.post(f"/admin/{path}/{item.pk}/change/", {}).status_code == 403
        assert client.post(f"/admin/{path}/{item.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Deployment.objects.exists() and Node.objects.exists()
