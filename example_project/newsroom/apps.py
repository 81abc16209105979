from django.apps import AppConfig


class NewsroomConfig(AppConfig):
    name = "example_project.newsroom"
