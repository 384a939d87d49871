defmodule BrowserWeb.BoardLive do
  @moduledoc false
  # One of each thing that needs a connection; the element that shows it has its name as id.
  use Phoenix.LiveView

  alias BrowserWeb.{Endpoint, Presence}

  @topic "board"
  @upload_limit 4_000_000

  @impl true
  def mount(_params, session, socket) do
    name = session["name"] || "nobody"

    if connected?(socket) do
      Endpoint.subscribe(@topic)
      {:ok, _ref} = Presence.track(self(), @topic, name, %{})
    end

    {:ok,
     socket
     |> assign(name: name, port: peer_port(socket), mount: mount())
     |> assign(count: 0, told: "", text: "", digest: "", present: present())
     |> allow_upload(:file, accept: :any, max_file_size: @upload_limit)}
  end

  @impl true
  def handle_params(params, _uri, socket) do
    {:noreply, assign(socket, :page, String.to_integer(params["page"] || "1"))}
  end

  @impl true
  def render(assigns) do
    ~H"""
    <p>
      <span id="name"><%= @name %></span> on port <span id="port"><%= @port %></span>
      in mount <span id="mount"><%= @mount %></span>
    </p>

    <button id="add" phx-click="add">Add</button> <span id="count"><%= @count %></span>
    <button id="tell" phx-click="tell">Tell all</button> <span id="told"><%= @told %></span>
    <p>Present: <span id="present"><%= Enum.join(@present, " ") %></span></p>

    <p>Page <span id="page"><%= @page %></span></p>
    <.link id="patch" patch={"/?page=#{@page + 1}"}>Next</.link>
    <.link id="navigate" navigate="/other">Other</.link>
    <a id="leave" href="/plain">Leave</a>

    <form id="draft" phx-change="draft" phx-submit="draft">
      <input id="input" name="text" value={@text} />
    </form>
    <p>Draft: <span id="text"><%= @text %></span></p>

    <form id="upload" phx-change="chosen" phx-submit="upload">
      <.live_file_input upload={@uploads.file} />
      <button id="send">Upload</button>
    </form>
    <p>Uploaded: <span id="digest"><%= @digest %></span></p>

    <button id="crash" phx-click="crash">Crash</button>
    """
  end

  @impl true
  def handle_event("add", _params, socket), do: {:noreply, update(socket, :count, &(&1 + 1))}

  def handle_event("tell", _params, socket) do
    Endpoint.broadcast!(@topic, "told", %{text: "by #{socket.assigns.name}"})
    {:noreply, socket}
  end

  def handle_event("draft", %{"text" => text}, socket),
    do: {:noreply, assign(socket, :text, text)}

  def handle_event("chosen", _params, socket), do: {:noreply, socket}

  def handle_event("upload", _params, socket) do
    [digest] =
      consume_uploaded_entries(socket, :file, fn %{path: path}, _entry ->
        data = File.read!(path)
        {:ok, "#{byte_size(data)} #{BrowserWeb.Digest.of(data)}"}
      end)

    {:noreply, assign(socket, :digest, digest)}
  end

  def handle_event("crash", _params, _socket), do: raise("the deliberate crash of a LiveView")

  @impl true
  def handle_info(%{event: "told", payload: %{text: text}}, socket),
    do: {:noreply, assign(socket, :told, text)}

  def handle_info(%{event: "presence_diff"}, socket),
    do: {:noreply, assign(socket, :present, present())}

  defp present, do: @topic |> Presence.list() |> Map.keys() |> Enum.sort()

  # Another one in each mount, also after a restart.
  defp mount, do: Base.encode16(:crypto.strong_rand_bytes(8))

  defp peer_port(socket) do
    if connected?(socket), do: get_connect_info(socket, :peer_data).port
  end
end

defmodule BrowserWeb.OtherLive do
  @moduledoc false
  use Phoenix.LiveView

  @impl true
  def mount(_params, _session, socket), do: {:ok, socket}

  @impl true
  def render(assigns) do
    ~H"""
    <p id="other">Another LiveView</p>
    <.link id="back" navigate="/?page=5">Back</.link>
    """
  end
end

defmodule BrowserWeb.Presence do
  @moduledoc false
  use Phoenix.Presence, otp_app: :sample, pubsub_server: Sample.PubSub
end

defmodule BrowserWeb.Digest do
  @moduledoc false

  # As hexadecimal text in lower case.
  def of(data), do: :sha256 |> :crypto.hash(data) |> Base.encode16(case: :lower)
end
