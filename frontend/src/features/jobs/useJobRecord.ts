import { type UseQueryOptions, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { client, queries } from "@/api/client";
import { EMPTY, type JobRecord, reduce } from "./record";

const BATCH = 2000;
/** Milliseconds; drawing a long record after every batch would take longer than fetching it. */
const SHOW_EVERY = 400;

/** The query of a job's events, folded. Only what is new is fetched, and a long record shows as it comes. */
export function recordQuery(id: string): UseQueryOptions<JobRecord> {
  const key = ["job-record", id];
  return {
    queryKey: key,
    structuralSharing: false, // the lists only ever grow; comparing them would cost more than drawing them
    queryFn: async ({ signal }) => {
      let record = queries.getQueryData<JobRecord>(key) ?? EMPTY;
      let shown = performance.now();
      for (;;) {
        const { data, error } = await client.GET("/api/v1/jobs/{job_id}/events", {
          params: { path: { job_id: id }, query: { after: record.last, limit: BATCH } },
          signal,
        });
        if (error) throw error;
        record = reduce(record, data.events);
        if (data.events.length < BATCH) return record;
        if (performance.now() - shown > SHOW_EVERY) {
          queries.setQueryData(key, record);
          shown = performance.now();
        }
      }
    },
  };
}

/** A job's record, polled while the job lives. */
export function useJobRecord(id: string, state: string, live: boolean) {
  const query = useQuery({ ...recordQuery(id), refetchInterval: live ? 1000 : false });
  const { refetch } = query;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the last events come with the last change of state
  useEffect(() => {
    void refetch();
  }, [refetch, state]);
  return query;
}
