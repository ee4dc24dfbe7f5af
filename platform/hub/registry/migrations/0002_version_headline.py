from django.db import migrations, models

from hub.registry.cards import headline


def fill(apps, schema_editor):
    versions = apps.get_model("registry", "ModelVersion")
    for version in versions.objects.only("report").iterator(chunk_size=20):
        versions.objects.filter(pk=version.pk).update(headline=headline(version.report))


class Migration(migrations.Migration):
    dependencies = [("registry", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="modelversion",
            name="headline",
            field=models.JSONField(
                help_text="What a list shows of the report, which is too large to read there: see services.headline.",
                null=True,
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
