import { Badge } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type en from "@/i18n/en.json";

type State = keyof (typeof en)["state"];

const COLORS: Record<State, string> = {
  validating: "blue",
  ready: "green",
  invalid: "red",
  queued: "gray",
  running: "blue",
  paused: "yellow",
  cancelling: "orange",
  succeeded: "green",
  failed: "red",
  cancelled: "gray",
  assigned: "gray",
  pulling: "blue",
  verifying: "blue",
  loading: "blue",
  online: "green",
  offline: "gray",
  waiting: "yellow",
  best: "green",
  stopped: "gray",
  finished: "blue",
};

/** The state of an object as a word with a colour; the word carries the meaning. */
export function StateBadge({ state }: { state: State }) {
  const { t } = useTranslation();
  return (
    <Badge
      color={COLORS[state]}
      variant="light"
      tt="none"
      style={{ flexShrink: 0, minWidth: "max-content" }}
      data-state={state}
    >
      {t(`state.${state}`)}
    </Badge>
  );
}
