"""A token kind for each role, instead of one for all nodes.

A node token that has registered serving nodes, and nothing else, becomes a serving node's. Every other one becomes a
worker's: what it may do less is see the callers of serving nodes. One that had registered both goes on as a worker's;
its serving nodes say at their next start that they need a token of their own.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Exists, OuterRef, Q

STANDS_FOR = "token_names_whom_it_stands_for"


def split(apps, schema_editor):
    ApiToken, Node = apps.get_model("accounts", "ApiToken"), apps.get_model("serving", "Node")
    registered = {kind: Exists(Node.objects.filter(token=OuterRef("pk"), kind=kind)) for kind in ("worker", "serve")}
    nodes = ApiToken.objects.filter(kind="node")
    nodes.filter(registered["serve"], ~registered["worker"]).update(kind="serve")
    nodes.update(kind="worker")


def join(apps, schema_editor):
    ApiToken = apps.get_model("accounts", "ApiToken")
    ApiToken.objects.filter(kind="predict").delete()
    ApiToken.objects.filter(kind__in=("worker", "serve")).update(kind="node")


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial"), ("serving", "0002_node_profile")]

    operations = [
        migrations.RemoveConstraint(model_name="apitoken", name=STANDS_FOR),
        migrations.AlterField(
            model_name="apitoken",
            name="kind",
            field=models.CharField(
                choices=[
                    ("user", "User"),
                    ("worker", "Worker"),
                    ("serve", "Serve"),
                    ("predict", "Predict"),
                    ("job", "Job"),
                ],
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="apitoken",
            name="subject",
            field=models.UUIDField(
                blank=True,
                help_text="The job that a job token stands for; the only deployment of a predict token.",
                null=True,
            ),
        ),
        migrations.RunPython(split, join),
        migrations.AddConstraint(
            model_name="apitoken",
            constraint=models.CheckConstraint(
                condition=(
                    Q(kind="user", user__isnull=False, workspace__isnull=False, subject__isnull=True)
                    | Q(kind="predict", user__isnull=False, workspace__isnull=False)
                    | Q(kind__in=("worker", "serve"), user__isnull=True, subject__isnull=True)
                    | Q(kind="job", user__isnull=True, workspace__isnull=False, subject__isnull=False)
                ),
                name=STANDS_FOR,
            ),
        ),
    ]
