import { Anchor, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { CopyBlock } from "@/components/CopyBlock";
import type { Snippet } from "@/lib/asking";
import { useWorkspace } from "@/session/session";

/** Snippets to paste, and where the token comes from that each of them lacks. */
export function Snippets({ snippets }: { snippets: Snippet[] }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  return (
    <Stack gap="sm">
      <Text size="sm" c="dimmed">
        {t("models.tokenNote")}{" "}
        <Anchor component={Link} inherit underline="always" to={`/w/${slug}/settings`}>
          {t("models.tokenMake")}
        </Anchor>
      </Text>
      {snippets.map((snippet) => (
        <CopyBlock key={snippet.label} {...snippet} />
      ))}
    </Stack>
  );
}
