import type { LoaderFunctionArgs } from "react-router";
import { api, queries } from "@/api/client";

/** Asks for the job of the address while its page's code is still on its way. */
export function loader({ params: { id = "" } }: LoaderFunctionArgs): null {
  void queries.prefetchQuery(api.queryOptions("get", "/api/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  return null;
}
