import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { client, queries } from "@/api/client";
import { EMPTY, type JobRecord, reduce } from "./record";

const BATCH = 500;

/** A job's events, folded; polled while the job lives. Only what is new is fetched, and a long record shows as it comes. */
export function useJobRecord(id: string, state: string, live: boolean) {
  const key = ["job-record", id];
  const query = useQuery({
    queryKey: key,
    structuralSharing: false, // the lists only ever grow; comparing them would cost more than drawing them
    refetchInterval: live ? 1000 : false,
    queryFn: async ({ signal }) => {
      let record = queries.getQueryData<JobRecord>(key) ?? EMPTY;
      for (;;) {
        const { data, error } = await client.GET("/api/v1/jobs/{job_id}/events", {
          params: { path: { job_id: id }, query: { after: record.last, limit: BATCH } },
          signal,
        });
        if (error) throw error;
        record = reduce(record, data.events);
        if (data.events.length < BATCH) return record;
        queries.setQueryData(key, record);
      }
    },
  });
  const { refetch } = query;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the last events come with the last change of state
  useEffect(() => {
    void refetch();
  }, [refetch, state]);
  return query;
}
