defmodule Sample.Client do
  @moduledoc false
  # A client of channels, on that of raw bytes.

  import ExUnit.Assertions
  import Ferrosock.Test.Raw

  @doc "The port that an endpoint listens on."
  def port(endpoint \\ SampleWeb.Endpoint, scheme \\ :http) do
    {:ok, {_ip, port}} = endpoint.server_info(scheme)
    port
  end

  @doc "A socket of channels that is connected."
  def open(port, query \\ ""), do: websocket(port, "/socket/websocket?vsn=2.0.0&" <> query)

  @doc "Joins a topic and returns the reply."
  def join(socket, topic, payload \\ %{}) do
    push(socket, topic, "phx_join", payload, topic)
    reply(socket, topic)
  end

  @doc "Sends a message of version 2 of the serializer."
  def push(socket, topic, event, payload \\ %{}, ref \\ "ref"),
    do: send_frame(socket, :text, Jason.encode!([topic, ref, topic, event, payload]))

  @doc "The next message: `{topic, event, payload}`."
  def receive_message(socket) do
    assert {:text, text} = recv_frame(socket)
    [_join_ref, _ref, topic, event, payload] = Jason.decode!(text)
    {topic, event, payload}
  end

  @doc "The next message, a reply: its status and its response."
  def reply(socket, topic) do
    assert {^topic, "phx_reply", %{"status" => status, "response" => response}} =
             receive_message(socket)

    {status, response}
  end

  @doc "Whether the next thing is the end by a broadcast of `disconnect`, for which Phoenix 1.8 has another code."
  def disconnected?(socket), do: recv_frame(socket) in [{:close, 1000, ""}, {:close, 1001, ""}]

  @doc "The processes of a joined channel and of its socket, in this VM."
  def pids(socket, topic) do
    push(socket, topic, "pids")
    {"ok", %{"pids" => pids}} = reply(socket, topic)
    Enum.map(pids, &(&1 |> to_charlist() |> :erlang.list_to_pid()))
  end
end
