"""The table as it was: diagnoses in clear."""

import uuid

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Patient",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=200)),
                ("diagnosis", models.TextField(null=True)),
            ],
            options={"permissions": [("read_diagnosis", "Can read diagnoses")]},
        ),
    ]
