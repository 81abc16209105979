from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class AggregatingStorage(ManifestStaticFilesStorage):
    """Gives the imports of modules hashed names, too."""

    support_js_module_import_aggregation = True
