defmodule SampleWeb.ReloadingEndpoint do
  @moduledoc false
  # Its code reloader is on. What it serves is compiled while it runs.
  use Phoenix.Endpoint, otp_app: :sample

  plug Phoenix.CodeReloader
  plug :reloaded

  defp reloaded(conn, _options), do: apply(Sample.Reloaded, :call, [conn, []])
end
