import { useParams } from "react-router";
import { api } from "@/api/client";
import { isSignedOut } from "@/api/errors";
import type { Me } from "@/api/types";

/** Who is signed in: undefined while unknown, null when nobody is. */
export function useMe(): { me: Me | null | undefined; error: unknown } {
  const query = api.useQuery("get", "/api/v1/me", undefined, { staleTime: 60_000, retry: false });
  if (query.error && isSignedOut(query.error)) return { me: null, error: null };
  return { me: query.data, error: query.error };
}

export interface WorkspaceContext {
  slug: string;
  /** May upload, submit, cancel, move aliases, deploy. */
  canEdit: boolean;
  /** May also delete, and manage members and node tokens. */
  isOwner: boolean;
}

/** The workspace that the address names, and what the user may do there. */
export function useWorkspace(): WorkspaceContext {
  const { workspace = "" } = useParams();
  const { me } = useMe();
  const role = me?.workspaces.find((place) => place.slug === workspace)?.role;
  return { slug: workspace, canEdit: role === "editor" || role === "owner", isOwner: role === "owner" };
}
