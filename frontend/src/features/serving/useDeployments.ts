import { api } from "@/api/client";
import { useWorkspace } from "@/session/session";

/** The workspace's deployments, asked for again every so many milliseconds. */
export function useDeployments(every: number) {
  const { slug } = useWorkspace();
  return api.useQuery(
    "get",
    "/api/v1/deployments",
    { params: { query: { workspace: slug, page_size: 200 } } },
    { refetchInterval: every },
  );
}
