defmodule Ferrosock.HTTP.Header do
  @moduledoc false
  # Names of header fields, which are the same in any case (RFC9110§5.1). Those of requests come from the
  # engine in lower case; those of responses are as the app wrote them: Plug checks them in tests alone.

  @doc "Whether a name is the one that is given in lower case."
  @spec named?(binary(), binary()) :: boolean()
  def named?(name, name), do: true

  def named?(name, lower) when byte_size(name) == byte_size(lower),
    do: String.downcase(name, :ascii) == lower

  def named?(_name, _lower), do: false

  @doc "The fields without those of the name, which is given in lower case."
  @spec delete(Plug.Conn.headers(), binary()) :: Plug.Conn.headers()
  def delete(headers, lower), do: for({name, _} = h <- headers, not named?(name, lower), do: h)

  @doc "Sets the one field of the name, which is given in lower case."
  @spec put(Plug.Conn.headers(), binary(), binary()) :: Plug.Conn.headers()
  def put(headers, lower, value), do: [{lower, value} | delete(headers, lower)]
end
