defmodule Sample.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    children = [{Phoenix.PubSub, name: Sample.PubSub}, SampleWeb.Endpoint]
    Supervisor.start_link(children, strategy: :one_for_one, name: Sample.Supervisor)
  end
end
