"""A fake Kubernetes API server: for faults, which a real one will not have on demand, and for scale.

    with FakeApiServer(tls=True, token="secret") as server:           # stage.apiserver.server
        server.load(objects)                                          # plain dicts, 10,000s of them
        config["kubernetes"] = {"kubeconfig": str(server.write_kubeconfig(folder))}
        made = server.apply({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {…}, …})
        server.delete("Ingress", "default", "shop")
        server.left_at(made["metadata"]["resourceVersion"])           # time.monotonic() when its watch event left
        server.object("Ingress", "default", "shop")["status"]         # what was written to it over HTTP
        with server.fault(BlackHole()):                               # stage.apiserver.faults
            …
        with server.fault(Answer(429, retry_after_s=1), "/api/v1/secrets", verbs={"list", "watch"}):
            …
        server.compact()                                              # every older version is gone: 410
        server.requests                                               # what was asked, with verb, query, Accept, status

Every method may be called from any thread; the server lives on a thread and loop of its own. It is true to a real one
in what a client must cope with:

- lists with `limit`/`continue` (one consistent version over all pages), `remainingItemCount` only without selectors,
  items without `kind` and `apiVersion`, `resourceVersion=0` ignores `limit`; a version from the future answers 504;
- watches with bookmarks, `timeoutSeconds`, `sendInitialEvents`, selectors (an object that stops matching is DELETED);
- 410 "Expired" as an ERROR event or as HTTP status (`gone_as`), and for a `continue` from before `compact()`;
- POST (`generateName`, AlreadyExists), PUT (Conflict, `/status`, no new version when nothing changed), merge PATCH
  (strategic merge is treated as merge), DELETE with preconditions; `metadata.generation` moves with everything but
  metadata and status;
- `PartialObjectMetadata(List)` by `Accept`, gzip of big answers where the client allows it, bearer token, TLS.

It does not validate objects, has no admission, finalizers, server-side apply, namespaces' life cycle or RBAC (an
`Answer(403)` does). Imports nothing of ingressd.
"""
