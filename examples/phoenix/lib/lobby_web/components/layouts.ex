defmodule LobbyWeb.Layouts do
  @moduledoc """
  What all pages have around them, and small parts that several have.
  """

  use LobbyWeb, :html

  embed_templates "layouts/*"

  attr :current, :atom, required: true, doc: "The page's place in the navigation"
  slot :inner_block, required: true

  def app(assigns) do
    ~H"""
    <header class="top">
      <p class="brand"><img src={~p"/favicon.svg"} alt="" width="28" height="28" /> <span>Ferrosock</span></p>
      <nav aria-label="Pages">
        <%!-- From one LiveView to the next there is no new page, only a new process. --%>
        <.link navigate={~p"/"} aria-current={@current == :lobby && "page"}>Lobby</.link>
        <.link navigate={~p"/upload"} aria-current={@current == :upload && "page"}>Upload</.link>
        <.link href={~p"/room"} aria-current={@current == :room && "page"}>Room</.link>
      </nav>
    </header>

    <main><%= render_slot(@inner_block) %></main>

    <footer>Phoenix on Ferrosock, by one line: <code>adapter: Ferrosock.PhoenixAdapter</code></footer>
    """
  end

  @doc "Says so while the page of a LiveView has lost its server."
  def lost(assigns) do
    ~H"""
    <p
      id="lost"
      class="lost"
      role="status"
      phx-disconnected={JS.remove_attribute("hidden")}
      phx-connected={JS.set_attribute({"hidden", ""})}
      hidden
    >
      The connection was lost. Trying again…
    </p>
    """
  end

  attr :person, :map, required: true

  def avatar(assigns) do
    ~H"""
    <span class={"avatar hue-#{hue(@person.id)}"} aria-hidden="true"><%= String.first(@person.name) %></span>
    """
  end

  # By the same sum as in room.js, so that a person has one colour everywhere.
  defp hue(id), do: id |> String.to_charlist() |> Enum.sum() |> rem(6)
end
