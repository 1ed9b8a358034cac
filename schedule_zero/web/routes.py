"""The one route table: the API and the pages. What is not in it does not exist."""

from __future__ import annotations

from schedule_zero.web.api.routes import ROUTES as API
from schedule_zero.web.api.routing import RouteTable
from schedule_zero.web.pages.routes import ROUTES as PAGES

TABLE = RouteTable((*API, *PAGES))
