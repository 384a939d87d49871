defmodule Ferrosock.Address do
  @moduledoc false
  # An IP address and a port in words.

  @doc "As in a URL: `127.0.0.1:4000`, `[::1]:4000`."
  @spec format(Ferrosock.Native.address()) :: String.t()
  def format({ip, port}) when tuple_size(ip) == 8, do: "[#{:inet.ntoa(ip)}]:#{port}"
  def format({ip, port}), do: "#{:inet.ntoa(ip)}:#{port}"
end
