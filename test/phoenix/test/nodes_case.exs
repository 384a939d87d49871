defmodule Sample.NodesCase do
  # Two nodes of one app: what is broadcast on one arrives at the clients of the other.
  use ExUnit.Case, async: true

  import Ferrosock.Test.Raw, only: [eventually: 1, free_port: 0, recv_frame: 2]
  import Sample.Client

  alias Sample.Peer

  test "a broadcast reaches the clients of all nodes" do
    # Without epmd, all nodes have the same port, and so an address each.
    port = free_port()

    [{one, one_port}, {_two, two_port}] =
      for n <- 1..2 do
        Peer.start!(
          ~w(-name sample@127.0.0.#{n} -setcookie sample -start_epmd false -erl_epmd_port #{port}) ++
            ["-kernel", "inet_dist_use_interface", "{127,0,0,#{n}}"]
        )
      end

    assert Peer.call(one, Node, :connect, [:"sample@127.0.0.2"])
    [ada, bob] = for port <- [one_port, two_port], do: open(port)
    for socket <- [ada, bob], do: join(socket, "room:1")
    said = {"room:1", "said", %{"text" => "to all nodes"}}

    # The nodes learn of each other a little later.
    eventually(fn ->
      push(ada, "room:1", "say", %{text: "to all nodes"})
      assert receive_message(ada) == said
      match?({:text, _said}, recv_frame(bob, 100))
    end)

    user = open(two_port, "user=7")
    join(user, "room:2")
    Peer.call(one, SampleWeb.Endpoint, :broadcast, ["users_socket:7", "disconnect", %{}])
    assert disconnected?(user)
  end
end
