"""The admin listener: health, readiness, metrics, debugging views and one plain page, served by aiohttp.

In: a listening socket, and a `View` of what the controller knows. Out: answers; nothing here changes state. May import:
`pipeline`, `translate`, `store`, `objects`, `model`, `observe`, aiohttp.
"""
