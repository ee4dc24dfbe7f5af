import { Alert, Button, Group, Select, Stack, Table, Tabs, Text, TextInput } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { useSearchParams } from "react-router";
import { api, reload } from "@/api/client";
import type { IssuedToken, Token } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { CopyBlock } from "@/components/CopyBlock";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Page } from "@/components/Page";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useWorkspace } from "@/session/session";
import { Audit } from "./Audit";
import { Limits } from "./Limits";
import { Members } from "./Members";
import { PasswordForm } from "./PasswordForm";

export function Component() {
  const { t } = useTranslation();
  const { isOwner } = useWorkspace();
  const [params, setParams] = useSearchParams();
  const tabs = ["tokens", "members", ...(isOwner ? (["audit"] as const) : []), "limits"] as const;
  const tab = tabs.find((name) => name === params.get("tab")) ?? "tokens";
  return (
    <Page title={t("settings.title")}>
      {/* Another part begins on its first page, without the filters of the former one. */}
      <Tabs
        value={tab}
        onChange={(name) => setParams(name && name !== "tokens" ? { tab: name } : {})}
        keepMounted={false}
      >
        <Tabs.List aria-label={t("settings.sections")}>
          {tabs.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {t(`settings.tabs.${name}`)}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {tabs.map((name) => (
          <Tabs.Panel key={name} value={name} pt="md">
            <Stack gap="lg">{PARTS[name]}</Stack>
          </Tabs.Panel>
        ))}
      </Tabs>
    </Page>
  );
}

const TOKEN_KINDS = ["user", "predict", "worker", "serve"] as const;
/** Those of which only owners make one. */
const NODE_KINDS: readonly string[] = ["worker", "serve"];
const ORDERS = ["-created_at", "name", "-last_used_at"] as const;

const PARTS = { tokens: <Tokens />, members: <Members />, audit: <Audit />, limits: <Limits /> };

/** For programs, and for oneself. */
function Tokens() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const [issued, setIssued] = useState<IssuedToken | null>(null);
  const address = useListAddress();
  const { get, page, set } = address;
  const kind = TOKEN_KINDS.find((known) => known === get("kind"));
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search") || undefined;
  const tokens = api.useQuery(
    "get",
    "/api/v1/tokens",
    { params: { query: { usable_in: slug, kind, ordering, search, page, page_size: PAGE_SIZE } } },
    { placeholderData: keepPreviousData },
  );
  return (
    <>
      <Section title={t("settings.tokens")} note={t("settings.tokensNote")}>
        <NewToken onIssued={setIssued} />
        {issued && (
          <Alert
            color="yellow"
            title={t("settings.once")}
            onClose={() => setIssued(null)}
            withCloseButton
            closeButtonLabel={t("common.close")}
          >
            <CopyBlock label={t("settings.secret", { name: issued.name })} text={issued.token} />
          </Alert>
        )}
        <ListFilters
          address={address}
          choices={[
            {
              name: "kind",
              label: t("settings.kind"),
              any: t("settings.anyKind"),
              options: TOKEN_KINDS.map((value) => ({ value, label: t(`settings.kinds.${value}`) })),
            },
          ]}
          orders={ORDERS}
        />
        <Loaded query={tokens}>
          {(list) =>
            list.count === 0 ? (
              <Empty
                title={kind || search ? t("common.noneMatches") : t("settings.none")}
                text={kind || search ? t("common.noneMatchesText") : t("settings.noneText")}
              />
            ) : (
              <>
                <Table.ScrollContainer minWidth={620}>
                  <Table aria-label={t("settings.tokens")}>
                    <Table.Thead>
                      <Table.Tr>
                        <Table.Th>{t("settings.name")}</Table.Th>
                        <Table.Th>{t("settings.kind")}</Table.Th>
                        <Table.Th>{t("settings.prefix")}</Table.Th>
                        <Table.Th>{t("settings.role")}</Table.Th>
                        <Table.Th className="nowrap">{t("settings.used")}</Table.Th>
                        <Table.Td />
                      </Table.Tr>
                    </Table.Thead>
                    <Table.Tbody>
                      {list.results.map((token) => (
                        <TokenRow key={token.id} token={token} />
                      ))}
                    </Table.Tbody>
                  </Table>
                </Table.ScrollContainer>
                <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
              </>
            )
          }
        </Loaded>
      </Section>
      <PasswordForm />
    </>
  );
}

function NewToken({ onIssued }: { onIssued: (token: IssuedToken) => void }) {
  const { t } = useTranslation();
  const { slug, isOwner, canEdit } = useWorkspace();
  const [name, setName] = useState("");
  const [kind, setKind] = useState<(typeof TOKEN_KINDS)[number]>("user");
  const [role, setRole] = useState<"viewer" | "editor" | "owner">("viewer");
  const create = api.useMutation("post", "/api/v1/tokens", {
    onSuccess: async (token) => {
      onIssued(token);
      setName("");
      await reload("/api/v1/tokens");
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ body: { name, kind, workspace: slug, ...(kind === "user" ? { role } : {}) } });
  };
  const roles = (["viewer", "editor", "owner"] as const).slice(0, isOwner ? 3 : canEdit ? 2 : 1);
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <Group align="flex-end">
          <TextInput
            label={t("settings.name")}
            value={name}
            maxLength={100}
            required
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Select
            label={t("settings.kind")}
            data={TOKEN_KINDS.filter((value) => isOwner || !NODE_KINDS.includes(value)).map((value) => ({
              value,
              label: t(`settings.kinds.${value}`),
            }))}
            value={kind}
            onChange={(value) => setKind(TOKEN_KINDS.find((known) => known === value) ?? "user")}
            allowDeselect={false}
          />
          {kind === "user" && (
            <Select
              label={t("settings.role")}
              data={roles.map((value) => ({ value, label: t(`settings.roles.${value}`) }))}
              value={role}
              onChange={(value) => setRole(roles.find((known) => known === value) ?? "viewer")}
              allowDeselect={false}
            />
          )}
          <Button type="submit" loading={create.isPending}>
            {t("settings.create")}
          </Button>
        </Group>
        <Text size="sm" c="dimmed">
          {t(`settings.kindNotes.${kind}`)}
        </Text>
        {create.error && <ErrorNote error={create.error} />}
      </Stack>
    </form>
  );
}

function TokenRow({ token }: { token: Token }) {
  const { t } = useTranslation();
  const revoke = api.useMutation("delete", "/api/v1/tokens/{token_id}", { onSuccess: () => reload("/api/v1/tokens") });
  return (
    <Table.Tr>
      <Table.Td className="breakable">{token.name}</Table.Td>
      <Table.Td>{t(`settings.kinds.${token.kind}`)}</Table.Td>
      <Table.Td className="mono">{token.prefix}…</Table.Td>
      <Table.Td>{token.kind === "user" ? t(`settings.roles.${token.role}`) : "–"}</Table.Td>
      <Table.Td className="nowrap">{token.last_used_at ? dateTime(token.last_used_at) : t("settings.never")}</Table.Td>
      <Table.Td className="number">
        <Confirm
          label={t("settings.revoke")}
          question={t("settings.revokeQuestion", { name: token.name })}
          act={() => revoke.mutateAsync({ params: { path: { token_id: token.id } } })}
          busy={revoke.isPending}
          error={revoke.error}
          size="compact-sm"
        />
      </Table.Td>
    </Table.Tr>
  );
}
