"""What the workflows leave behind: a row for each processed item, and digests as issues with entries.

A step that was interrupted runs again, so each row has a natural key under which the second attempt finds what
the first one wrote; the constraints see to it.
"""

from django.db import models
from django.utils import timezone


class ProcessedItem(models.Model):
    """An item that ``process_items`` has dealt with."""

    # One run's items, and the item's place among them from 0.
    batch = models.CharField(max_length=32)
    position = models.PositiveIntegerField()
    label = models.TextField()
    processed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "position"], name="newsroom_item_once")]
        ordering = ["-processed_at", "-id"]

    def __str__(self) -> str:
        return self.label


class Issue(models.Model):
    """A digest on its way from draft to reader."""

    class Status(models.TextChoices):
        # The entries are written, an editor has yet to decide.
        DRAFT = "draft"
        PUBLISHED = "published"
        REJECTED = "rejected"

    # Made by the run that writes the issue.
    key = models.CharField(max_length=32, unique=True)
    title = models.CharField(max_length=200)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    # What the editor said to the decision.
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.title

    async def adecide(self, *, approve: bool, note: str) -> None:
        """Publish or reject the issue; the first decision stands, and a repeated one changes nothing."""
        if self.status != self.Status.DRAFT:
            return
        self.status = self.Status.PUBLISHED if approve else self.Status.REJECTED
        self.note = note
        self.decided_at = timezone.now()
        await self.asave(update_fields=["status", "note", "decided_at"])


class Entry(models.Model):
    """One document's summary in an issue."""

    issue = models.ForeignKey(Issue, on_delete=models.CASCADE, related_name="entries")
    # Place in the issue, from 0.
    position = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    summary = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issue", "position"], name="newsroom_entry_position")]
        ordering = ["position"]
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return self.title
