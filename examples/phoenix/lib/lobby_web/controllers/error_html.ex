defmodule LobbyWeb.ErrorHTML do
  use LobbyWeb, :html

  # "404.html" becomes "Not Found".
  def render(template, _assigns), do: Phoenix.Controller.status_message_from_template(template)
end
