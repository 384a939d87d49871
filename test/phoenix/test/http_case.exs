defmodule Sample.HTTPCase do
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw

  test "a page of an endpoint is served" do
    {:ok, {{127, 0, 0, 1}, port}} = SampleWeb.Endpoint.server_info(:http)
    page = port |> connect() |> request("GET", "/")
    assert page.status == 200
    assert page.body =~ ~s|<span id="count">0</span>|
  end
end
