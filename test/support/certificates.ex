defmodule Ferrosock.Test.Certificates do
  @moduledoc "Certificates and keys of authorities that only the tests trust, made by OTP and openssl."

  @doc "`:ssl`'s options of a server for the names, and in `authorities` those that a client must trust."
  def make(hosts \\ ["localhost"]) do
    names = {:Extension, {2, 5, 29, 17}, false, Enum.map(hosts, &{:dNSName, to_charlist(&1)})}
    chain = %{root: entity(), intermediates: [entity()], peer: entity() ++ [extensions: [names]]}
    client_chain = %{root: entity(), intermediates: [], peer: entity()}

    %{server_config: server, client_config: client} =
      :public_key.pkix_test_data(%{server_chain: chain, client_chain: client_chain})

    between = Enum.reject(server[:cacerts], &:public_key.pkix_is_self_signed/1)
    %{cert: [server[:cert] | between], key: server[:key], authorities: client[:cacerts]}
  end

  defp entity, do: [key: {:namedCurve, :secp256r1}, digest: :sha256]

  @doc "`:ssl`'s options of a server whose key is as `openssl genpkey` is told."
  def of_key!(folder, genpkey) do
    [certfile, keyfile] = for name <- ~w(own.pem own.key), do: Path.join(folder, name)
    openssl!(~w(genpkey -out #{keyfile}) ++ genpkey)
    openssl!(~w(req -x509 -days 2 -subj /CN=localhost -key #{keyfile} -out #{certfile}))
    [certfile: certfile, keyfile: keyfile]
  end

  @doc "PEM files in the folder: an authority, and `:ssl`'s options of a client that it knows."
  def client!(folder) do
    [authority, authority_key, certfile, keyfile] =
      for name <- ~w(authority.pem authority.key client.pem client.key),
          do: Path.join(folder, name)

    request = ~w(req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256)
    openssl!(request ++ ~w(-subj /CN=Authority -out #{authority} -keyout #{authority_key}))

    openssl!(
      request ++
        ~w(-subj /CN=Client -addext basicConstraints=critical,CA:false) ++
        ~w(-CA #{authority} -CAkey #{authority_key} -out #{certfile} -keyout #{keyfile})
    )

    {authority, [certfile: certfile, keyfile: keyfile]}
  end

  def openssl!(arguments), do: {_, 0} = System.cmd("openssl", arguments, stderr_to_stdout: true)

  def pem(ders) when is_list(ders),
    do: :public_key.pem_encode(for der <- ders, do: {:Certificate, der, :not_encrypted})

  def pem({type, der}), do: :public_key.pem_encode([{type, der, :not_encrypted}])
end
