defmodule SampleWeb.Router do
  use Phoenix.Router, helpers: false

  import Phoenix.LiveView.Router

  pipeline :browser do
    plug :accepts, ["html"]
    plug :fetch_session
    plug :put_root_layout, html: {SampleWeb.Layouts, :root}
    plug :protect_from_forgery
  end

  scope "/", SampleWeb do
    pipe_through :browser

    live "/", CounterLive
  end
end
