"""The blob store on PostgreSQL beside a dict."""

from __future__ import annotations
