import { Button, Group, Select, Stack, Table, TextInput } from "@mantine/core";
import { keepPreviousData } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api, reload } from "@/api/client";
import type { Member } from "@/api/types";
import { Confirm } from "@/components/Confirm";
import { Empty } from "@/components/Empty";
import { ErrorNote } from "@/components/ErrorNote";
import { ListFilters } from "@/components/ListFilters";
import { Loaded } from "@/components/Loaded";
import { PAGE_SIZE, Pager, useListAddress } from "@/components/listing";
import { Section } from "@/components/Section";
import { dateTime } from "@/lib/format";
import { useMe, useWorkspace } from "@/session/session";
import { NewAccount } from "./NewAccount";

const ROLES = ["viewer", "editor", "owner"] as const;
type Role = (typeof ROLES)[number];
const ORDERS = ["user__username", "-created_at", "created_at"] as const;

/** Who is in the workspace, and what they may do; owners change it. */
export function Members() {
  const { t } = useTranslation();
  const { slug, isOwner } = useWorkspace();
  const { me } = useMe();
  const address = useListAddress();
  const { get, page, set } = address;
  const role = ROLES.find((known) => known === get("role"));
  const ordering = ORDERS.find((known) => known === get("ordering"));
  const search = get("search") || undefined;
  const query = api.useQuery(
    "get",
    "/api/v1/workspaces/{slug}/members",
    { params: { path: { slug }, query: { role, ordering, search, page, page_size: PAGE_SIZE } } },
    { placeholderData: keepPreviousData },
  );
  const options = useRoleOptions();
  return (
    <>
      <Section title={t("members.title")} note={t("members.note")}>
        {isOwner && <AddMember />}
        <ListFilters
          address={address}
          choices={[{ name: "role", label: t("members.roleShown"), any: t("members.anyRole"), options }]}
          orders={ORDERS}
        />
        <Loaded query={query}>
          {(list) => (
            <>
              <Table.ScrollContainer minWidth={520}>
                <Table aria-label={t("members.title")}>
                  <Table.Thead>
                    <Table.Tr>
                      <Table.Th>{t("accounts.username")}</Table.Th>
                      <Table.Th>{t("members.role")}</Table.Th>
                      <Table.Th className="nowrap">{t("members.since")}</Table.Th>
                      <Table.Td />
                    </Table.Tr>
                  </Table.Thead>
                  <Table.Tbody>
                    {list.results.map((member) => (
                      <MemberRow
                        key={member.username}
                        member={member}
                        mine={member.username === me?.user?.username}
                        canChange={isOwner}
                      />
                    ))}
                  </Table.Tbody>
                </Table>
              </Table.ScrollContainer>
              {list.count === 0 && <Empty title={t("common.noneMatches")} text={t("common.noneMatchesText")} />}
              <Pager count={list.count} page={page} onPage={(next) => set("page", String(next))} />
            </>
          )}
        </Loaded>
      </Section>
      {me?.user?.is_superuser && <NewAccount />}
    </>
  );
}

function useRoleOptions() {
  const { t } = useTranslation();
  return ROLES.map((value) => ({ value, label: t(`members.roles.${value}`) }));
}

function AddMember() {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const options = useRoleOptions();
  const [username, setUsername] = useState("");
  const [role, setRole] = useState<Role>("editor");
  const add = api.useMutation("post", "/api/v1/workspaces/{slug}/members", {
    onSuccess: () => {
      setUsername("");
      return reload("/api/v1/workspaces");
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    add.mutate({ params: { path: { slug } }, body: { username, role } });
  };
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <Group align="flex-start">
          <TextInput
            label={t("members.newName")}
            value={username}
            required
            autoComplete="off"
            onChange={(event) => setUsername(event.currentTarget.value)}
          />
          <Select
            label={t("members.role")}
            description={t(`members.may.${role}`)}
            inputWrapperOrder={["label", "input", "description"]}
            data={options}
            value={role}
            onChange={(value) => setRole(ROLES.find((known) => known === value) ?? "viewer")}
            allowDeselect={false}
          />
          {/* Beside the fields, below their labels. */}
          <Button type="submit" loading={add.isPending} mt={25}>
            {t("members.add")}
          </Button>
        </Group>
        {add.error && <ErrorNote error={add.error} />}
      </Stack>
    </form>
  );
}

function MemberRow({ member, mine, canChange }: { member: Member; mine: boolean; canChange: boolean }) {
  const { t } = useTranslation();
  const { slug } = useWorkspace();
  const options = useRoleOptions();
  const params = { path: { slug, username: member.username } };
  const after = { onSuccess: () => reload("/api/v1/workspaces", "/api/v1/me") };
  const change = api.useMutation("patch", "/api/v1/workspaces/{slug}/members/{username}", after);
  const remove = api.useMutation("delete", "/api/v1/workspaces/{slug}/members/{username}", after);
  return (
    <Table.Tr>
      <Table.Td className="breakable">{member.username}</Table.Td>
      <Table.Td>
        {canChange ? (
          <Select
            aria-label={t("members.roleOf", { name: member.username })}
            size="xs"
            data={options}
            value={member.role}
            onChange={(role) => change.mutate({ params, body: { role: role as Role } })}
            allowDeselect={false}
            disabled={change.isPending}
            w={140}
          />
        ) : (
          t(`members.roles.${member.role}`)
        )}
        {change.error && <ErrorNote error={change.error} />}
      </Table.Td>
      <Table.Td className="nowrap">{dateTime(member.created_at)}</Table.Td>
      <Table.Td className="number">
        {(canChange || mine) && (
          <Confirm
            label={mine ? t("members.leave") : t("members.remove")}
            question={
              mine ? t("members.leaveQuestion", { slug }) : t("members.removeQuestion", { name: member.username, slug })
            }
            act={() => remove.mutateAsync({ params })}
            busy={remove.isPending}
            error={remove.error}
            size="compact-sm"
          />
        )}
      </Table.Td>
    </Table.Tr>
  );
}
