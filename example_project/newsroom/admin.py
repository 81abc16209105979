from django.contrib import admin

from example_project.newsroom.models import Entry, Issue, ProcessedItem


class EntryInline(admin.TabularInline):
    model = Entry
    extra = 0


@admin.register(Issue)
class IssueAdmin(admin.ModelAdmin):
    list_display = ["title", "status", "created_at", "decided_at"]
    list_filter = ["status"]
    search_fields = ["title", "entries__summary"]
    readonly_fields = ["key", "created_at", "decided_at"]
    inlines = [EntryInline]


@admin.register(ProcessedItem)
class ProcessedItemAdmin(admin.ModelAdmin):
    list_display = ["label", "batch", "position", "processed_at"]
    list_filter = ["processed_at"]
    readonly_fields = ["processed_at"]
