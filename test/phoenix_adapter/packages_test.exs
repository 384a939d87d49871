defmodule Ferrosock.PhoenixAdapter.PackagesTest do
  # What the adapter says where an app lacks what it needs. In this VM there is no Phoenix, and no WebSockAdapter.
  # Not async: applications are the whole VM's.
  use ExUnit.Case

  alias Ferrosock.PhoenixAdapter

  test "a Phoenix that is too old is named, and what to do" do
    for {version, too_old?} <- [
          {"1.6.16", true},
          {"1.7.0-rc.3", true},
          {"1.7.0", false},
          {"1.8.12", false},
          {"1.9.0-dev", false}
        ] do
      :ok = :application.load({:application, :phoenix, vsn: to_charlist(version)})
      error = assert_raise ArgumentError, &child_specs/0
      :ok = :application.unload(:phoenix)

      if too_old?,
        do:
          assert(
            error.message ==
              "MyAppWeb.Endpoint has Phoenix #{version}, and Ferrosock.PhoenixAdapter needs 1.7 or later: " <>
                ~s|update it with {:phoenix, "~> 1.7"} in mix.exs|
          ),
        else: assert(error.message =~ "MyAppWeb.Endpoint has no WebSockAdapter")
    end
  end

  test "a missing WebSockAdapter is named, and what to do" do
    error = assert_raise ArgumentError, &child_specs/0

    assert error.message ==
             "MyAppWeb.Endpoint has no WebSockAdapter, which Phoenix upgrades its sockets with: add " <>
               ~s|{:websock_adapter, "~> 0.5.7"} to the dependencies in mix.exs|
  end

  defp child_specs, do: PhoenixAdapter.child_specs(MyAppWeb.Endpoint, otp_app: :my_app, http: [])
end
