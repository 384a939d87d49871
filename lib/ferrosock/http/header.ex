defmodule Ferrosock.HTTP.Header do
  @moduledoc false
  # Header fields by name, in any case (RFC9110§5.1). The engine gives the names of requests in lower case. The
  # names of responses are as the app wrote them: Plug checks their case in tests only. What a field means
  # is not the concern of this module.

  @doc "Whether the name is the same as the one in lower case."
  @spec named?(binary(), binary()) :: boolean()
  def named?(name, name), do: true

  def named?(name, lower) when byte_size(name) == byte_size(lower),
    do: String.downcase(name, :ascii) == lower

  def named?(_name, _lower), do: false

  @doc "Deletes the fields with the name, which is given in lower case."
  @spec delete(Plug.Conn.headers(), binary()) :: Plug.Conn.headers()
  def delete(headers, lower), do: for({name, _} = h <- headers, not named?(name, lower), do: h)

  @doc "Makes this the only field with the name, which is given in lower case."
  @spec put(Plug.Conn.headers(), binary(), binary()) :: Plug.Conn.headers()
  def put(headers, lower, value), do: [{lower, value} | delete(headers, lower)]
end
