import { api } from "@/api/client";
import { useWorkspace } from "@/session/session";

/** The serving nodes that have measured themselves and may serve this workspace, those that are online first. */
export function useMeasuredNodes(): { id: string; name: string }[] {
  const { slug } = useWorkspace();
  const query = api.useQuery("get", "/api/v1/nodes", { params: { query: { kind: "serve", page_size: 200 } } });
  return (query.data?.results ?? [])
    .filter(({ workspace, profile }) => profile && (workspace === null || workspace === slug))
    .sort((one, other) => Number(other.online) - Number(one.online))
    .map(({ id, name }) => ({ id, name }));
}
