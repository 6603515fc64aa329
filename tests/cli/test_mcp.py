"""`tidings mcp` has tools that read what the API reads; a real client of the protocol calls them over stdio."""

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters, types
from mcp.client.stdio import stdio_client

from api.openapi import OPERATIONS
from cli.commands import mcp as command
from tests.support.command_line import Commands
from tests.support.system import mailchannels_event

ANN = "ann@x.example"


def converse(commands: Commands, talk: Callable[[ClientSession], Awaitable[None]]) -> None:
    """Start the command as an assistant does, and talk to it."""
    program = "from cli.main import main; main(['mcp'])"
    server = StdioServerParameters(
        command=sys.executable, args=["-c", program], env=commands.settings, cwd=Path(__file__).parents[2]
    )

    async def run() -> None:
        async with stdio_client(server) as (reader, writer), ClientSession(reader, writer) as session:
            await session.initialize()
            await talk(session)

    anyio.run(run)


async def call(session: ClientSession, name: str, arguments: Mapping[str, Any], *, is_error: bool = False) -> str:
    answer = await session.call_tool(name, dict(arguments))
    assert isinstance(answer, types.CallToolResult)
    (content,) = answer.content
    assert isinstance(content, types.TextContent)
    assert answer.is_error is is_error, content.text
    return content.text


def test_the_tools_answer_as_the_api_does(commands: Commands) -> None:
    system = commands.system
    system.create_source()
    system.process_events(
        mailchannels_event("processed", ANN), mailchannels_event("hard-bounced", ANN, second=5, status="550")
    )
    (message,) = system.list_items("/v1/messages")

    async def talk(session: ClientSession) -> None:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == command.OPERATIONS
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools.values())
        parameters = system.get("/openapi.json")["paths"]["/v1/messages"]["get"]["parameters"]
        properties = tools["listMessages"].input_schema["properties"]
        assert set(properties) == {one["name"] for one in parameters if one["in"] == "query"}
        assert "bounced" in properties["status"]["enum"]
        assert tools["getMessage"].input_schema["required"] == ["message_id"]
        assert "wait" not in tools["listChanges"].input_schema["properties"]

        found = json.loads(await call(session, "listMessages", {"recipient": ANN, "limit": 5}))
        assert found["items"] == [message]
        assert json.loads(await call(session, "getMessage", {"message_id": message["id"]}))["id"] == message["id"]
        assert "bounced" in await call(session, "diagnoseMessages", {"message_id": message["id"]})
        suppressed = json.loads(await call(session, "getSuppression", {"address": ANN}))
        assert suppressed == system.get(f"/v1/suppressions/{ANN}")
        assert "problems" in json.loads(await call(session, "getStatus", {}))
        assert json.loads(await call(session, "getSeries", {"measure": "bounced"}))["series"]

    converse(commands, talk)


def test_a_wrong_call_is_answered_with_the_argument(commands: Commands) -> None:
    async def talk(session: ClientSession) -> None:
        for name, arguments, sentence in (
            ("listMessages", {"recipent": ANN}, "recipent: "),
            ("listMessages", {"status": "bonced"}, "status: "),
            ("listEvents", {"since": "yesterday"}, "since: Must be a time"),
            ("getMessage", {}, "message_id is required"),
            ("getMessage", {"message_id": "../keys"}, ""),
            ("getSeries", {}, "measure"),
            ("createKey", {"name": "mine"}, "no tool"),
            ("listKeys", {}, "no tool"),
        ):
            assert sentence in await call(session, name, arguments, is_error=True), name
        assert json.loads(await call(session, "listMessages", {}))["items"] == []

    converse(commands, talk)


def test_without_its_packages_the_command_says_how_to_install_them(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", None)
    assert "pip install 'tidings[mcp]'" in commands.run("mcp", code=2)


def test_only_operations_that_read_are_tools() -> None:
    reading = {name for operation, name in OPERATIONS.items() if operation.startswith("GET ")}
    assert reading >= command.OPERATIONS
