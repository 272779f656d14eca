"""The page that shows a study while it runs. It asks its local server for what is new."""

from markupsafe import Markup

from tuneoff.report.templates import read_resource, security_policy, template_environment


def watch_page(name: str) -> str:
    """The page as HTML, for a study called `name`."""
    style = read_resource("try.css") + read_resource("watch.css")
    script = read_resource("escaping.js") + read_resource("watch.js")
    return (
        template_environment()
        .from_string(read_resource("watch.html.j2"))
        .render(
            policy=f"{security_policy([script], style)}; connect-src 'self'",
            name=name,
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
        )
    )
