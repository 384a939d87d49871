defmodule LobbyWeb.UploadLive do
  use LobbyWeb, :live_view

  @max_size 10_000_000
  @shown 5

  @impl true
  def mount(_params, _session, socket) do
    upload = [
      accept: :any,
      max_entries: 1,
      max_file_size: @max_size,
      auto_upload: true,
      progress: &handle_progress/3
    ]

    {:ok, socket |> assign(page_title: "Upload", files: []) |> allow_upload(:file, upload)}
  end

  # The file has been checked by then, by what `allow_upload/3` was told.
  @impl true
  def handle_event("validate", _params, socket), do: {:noreply, socket}

  def handle_event("cancel", %{"ref" => ref}, socket) do
    {:noreply, cancel_upload(socket, :file, ref)}
  end

  defp handle_progress(:file, %{done?: false}, socket), do: {:noreply, socket}

  # The file is Phoenix's, and gone after this.
  defp handle_progress(:file, entry, socket) do
    sha256 = consume_uploaded_entry(socket, entry, fn %{path: path} -> {:ok, sha256(path)} end)
    file = %{id: entry.uuid, name: entry.client_name, size: entry.client_size, sha256: sha256}
    {:noreply, update(socket, :files, &Enum.take([file | &1], @shown))}
  end

  defp sha256(path) do
    path
    |> File.stream!(65_536)
    |> Enum.reduce(:crypto.hash_init(:sha256), &:crypto.hash_update(&2, &1))
    |> :crypto.hash_final()
    |> Base.encode16(case: :lower)
  end

  @impl true
  def render(assigns) do
    ~H"""
    <Layouts.app current={:upload}>
      <Layouts.lost />
      <section class="card">
        <h1>Upload a file</h1>
        <p class="hint">It comes over the page's WebSocket, is hashed and thrown away. Up to 10 MB.</p>

        <form id="upload" phx-change="validate" phx-submit="validate">
          <label class="drop" phx-drop-target={@uploads.file.ref}>
            <span>Choose a file, or drop one here</span>
            <.live_file_input upload={@uploads.file} />
          </label>
        </form>

        <div :for={entry <- @uploads.file.entries} class="entry">
          <p><bdi><%= entry.client_name %></bdi></p>
          <progress value={entry.progress} max="100" aria-label={"Progress of #{entry.client_name}"}>
            <%= entry.progress %> %
          </progress>
          <p :for={error <- upload_errors(@uploads.file, entry)} class="error" role="alert">
            <%= error_text(error) %>
          </p>
          <button phx-click="cancel" phx-value-ref={entry.ref}>Cancel</button>
        </div>
      </section>

      <section :if={@files != []} class="card" aria-live="polite">
        <h2>What arrived</h2>
        <dl :for={file <- @files} id={"file-#{file.id}"} class="file">
          <div><dt>Name</dt><dd class="name"><bdi><%= file.name %></bdi></dd></div>
          <div><dt>Size</dt><dd class="size"><%= with_commas(file.size) %> bytes</dd></div>
          <div><dt>SHA-256</dt><dd><code class="sha256"><%= file.sha256 %></code></dd></div>
        </dl>
      </section>
    </Layouts.app>
    """
  end

  defp with_commas(number), do: String.replace("#{number}", ~r/\B(?=(\d{3})+$)/, ",")

  defp error_text(:too_large), do: "This file is larger than 10 MB."
  defp error_text(_other), do: "This file could not be taken."
end
