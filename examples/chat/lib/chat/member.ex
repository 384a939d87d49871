defmodule Chat.Member do
  @moduledoc """
  One browser tab in the chat. Messages are JSON objects in text frames.

  From the page:

      {"type": "join", "name": "Ada"}       first, and once
      {"type": "say", "text": "Hello"}

  To the page:

      {"type": "welcome", "id": "…", "name": "Ada"}
      {"type": "here", "id": "…", "name": "Bob"}       was here before
      {"type": "joined", "id": "…", "name": "Cyd"}
      {"type": "left", "id": "…"}
      {"type": "said", "id": "…", "name": "Bob", "text": "Hi", "at": 1735689600000}
      {"type": "error", "message": "…"}

  Members introduce themselves to each other: whoever learns of a new process tells it who it is.
  """

  @behaviour WebSock

  alias Chat.Room

  @max_name 32
  @max_text 2000

  # A page in the background may not run for minutes, but its browser answers pings: they keep the
  # connection from being idle, and a dead one from being kept.
  @ping_interval 25_000

  defstruct [:id, :name, :room, others: %{}]

  @impl true
  def init(_options) do
    ping_later()
    {:ok, %__MODULE__{id: Base.url_encode64(:crypto.strong_rand_bytes(9))}}
  end

  @impl true
  def handle_in({data, opcode: :text}, member) do
    case JSON.decode(data) do
      {:ok, message} -> handle_message(message, member)
      {:error, _reason} -> refuse("That was not JSON.", member)
    end
  end

  def handle_in({_data, opcode: :binary}, member) do
    refuse("Messages are text frames.", member)
  end

  @impl true
  def handle_info(:ping, member) do
    ping_later()
    {:push, {:ping, ""}, member}
  end

  def handle_info({room, :join, _group, pids}, %{room: room} = member) do
    Room.tell(pids -- [self()], {:here, self(), introduction(member)})
    {:ok, member}
  end

  def handle_info({room, :leave, _group, pids}, %{room: room} = member) do
    {gone, others} = Map.split(member.others, pids)
    left = for {_pid, id} <- gone, do: event("left", %{id: id})
    {:push, left, %{member | others: others}}
  end

  def handle_info({type, pid, %{id: id} = who}, member) when type in [:here, :joined] do
    {:push, event(type, who), put_in(member.others[pid], id)}
  end

  def handle_info({:said, json}, member), do: {:push, {:text, json}, member}

  def handle_info(_other, member), do: {:ok, member}

  defp handle_message(%{"type" => "join", "name" => name}, %{room: nil} = member)
       when is_binary(name) do
    name = name |> String.replace(~r/[\s\p{Cc}]+/u, " ") |> String.trim()

    if fits?(name, @max_name) do
      {room, pids} = Room.join()
      member = %{member | name: name, room: room}
      Room.tell(pids, {:joined, self(), introduction(member)})
      {:push, event("welcome", introduction(member)), member}
    else
      refuse("A name has 1 to #{@max_name} characters.", member)
    end
  end

  defp handle_message(%{"type" => "say"}, %{room: nil} = member) do
    refuse("Join first.", member)
  end

  defp handle_message(%{"type" => "say", "text" => text}, member) when is_binary(text) do
    text = String.trim(text)

    if fits?(text, @max_text) do
      said = %{text: text, at: System.system_time(:millisecond)}
      {:text, json} = event("said", Map.merge(introduction(member), said))

      # Encoded once: what goes to each member is a reference to the same binary.
      Room.tell(Room.members(), {:said, json})
      {:ok, member}
    else
      refuse("A message has 1 to #{@max_text} characters.", member)
    end
  end

  defp handle_message(_other, member), do: refuse("Nobody understood that.", member)

  # Code points, because a grapheme may be made of any number of them.
  defp fits?(text, max), do: text != "" and length(String.codepoints(text)) <= max

  defp introduction(member), do: %{id: member.id, name: member.name}

  defp refuse(sentence, member), do: {:push, event("error", %{message: sentence}), member}

  defp event(type, fields), do: {:text, JSON.encode!(Map.put(fields, :type, type))}

  defp ping_later, do: Process.send_after(self(), :ping, @ping_interval)
end
