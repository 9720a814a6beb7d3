"""Each threat of the security model, and the tests that show its measure.

Each test was seen to fail without the measure. The index itself is checked: every row of the document has
tests, and every test exists.
"""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.support.project import ROOT, documents, expect_none, sources

TESTS: dict[str, tuple[str, ...]] = {
    "somebody speaks for another node, awake, asleep or dead": (
        "test_only_its_key_speaks_for_a_bound_node",
        "test_a_bound_node_returns_from_a_late_coma_as_itself",
        "test_the_name_of_a_dead_node_is_free_for_its_key_only",
        "test_a_foreign_signature_changes_no_node",
        "test_only_the_node_changes_its_key_in_every_state",
        "test_both_keys_sign_a_key_change_and_the_former_is_void",
        "test_changed_data_needs_the_claim_in_every_state",
        "test_departure_needs_the_claim",
        "test_no_claim_is_repeated_to_another_address",
        "test_no_claim_is_repeated_later",
        "test_no_claim_is_repeated_once_anything_changed",
    ),
    "a node's key that was stolen": (
        "test_the_present_key_alone_does_not_break_a_commitment",
        "test_a_commitment_outlives_its_node",
        "test_a_committed_key_may_take_the_name_of_a_dead_node",
        "test_every_field_of_a_tombstone_comes_back",
    ),
    "a key whose possession proves nothing": (
        "test_a_point_of_small_order_is_refused_in_every_form",
        "test_one_signature_fits_every_message_for_small_order_points",
        "test_a_second_encoding_of_a_point_is_refused",
        "test_an_rsa_key_has_one_exponent",
        "test_an_rsa_key_of_another_size_is_refused",
        "test_an_rsa_key_with_a_small_factor_is_refused",
        "test_an_even_modulus_is_refused",
    ),
    "a request sent again, out of order, or after a restart": (
        "test_the_same_request_is_accepted_once",
        "test_reordered_requests_are_both_accepted",
        "test_seventeen_proofs_in_a_minute_are_too_many",
        "test_a_departed_node_s_requests_cannot_be_repeated",
        "test_signatures_from_before_the_start_are_refused",
        "test_a_signature_has_its_time",
        "test_signatures_from_before_a_restart_are_refused",
    ),
    "a wall clock that is set forward and back": (
        "test_a_clock_change_lengthens_no_session",
        "test_clock_changes_allow_no_replay",
        "test_clock_set_forward_and_back_readmits_no_proof",
        "test_clock_set_forward_and_back_restores_no_revoked_token",
        "test_clock_ahead_at_start_restores_no_revoked_token",
    ),
    "a signed request with another body, path, method or receiver": (
        "test_no_part_of_the_request_may_change",
        "test_a_body_cannot_be_added",
        "test_another_syntax_is_refused_even_if_it_was_signed",
        "test_a_request_has_one_signature",
        "test_no_request_with_one_character_changed_is_proven",
        "test_a_request_signed_for_another_directory_is_refused",
        "test_a_signed_request_has_no_query",
        "test_a_signature_is_for_one_spelling_of_one_path",
        "test_a_signature_is_for_one_method_and_one_host",
        "test_a_body_in_chunks_is_covered_like_any_other",
        "test_counted_requests_are_not_repeated",
        "test_a_changed_signature_or_digest_is_refused",
    ),
    "a weaker algorithm than the one agreed on": (
        "test_the_message_does_not_decide_the_algorithm",
        "test_a_token_cannot_choose_its_suite",
        "test_half_of_a_composite_signature_is_none",
        "test_half_a_signature_is_none",
        "test_classical_root_cannot_replace_a_pinned_composite_one",
        "test_a_composite_root_that_cannot_be_used_stops_the_start",
        "test_half_a_composite_signature_is_none",
        "test_neither_root_signature_passes_for_the_other",
        "test_a_classical_root_is_only_trusted_by_choice",
        "test_a_classical_root_key_does_not_stand_in_for_a_lost_root_key",
    ),
    "tokens exchanged, or put together otherwise": (
        "test_tokens_of_different_pairs_are_refused",
        "test_tokens_from_two_requests_are_not_linked",
        "test_the_token_of_a_third_node_is_refused",
        "test_tokens_that_name_different_keys_are_not_linked",
        "test_even_signed_tokens_with_a_wrong_link_are_refused",
        "test_a_token_with_itself_is_refused",
        "test_a_token_is_for_its_audience",
        "test_copied_token_proves_no_key",
        "test_two_nodes_know_each_other_with_the_directory_gone",
    ),
    "a session or a token that was stolen": (
        "test_a_session_is_for_heartbeats_only",
        "test_a_session_is_renewed_by_each_heartbeat_for_an_hour",
        "test_a_repeated_session_ends_with_its_generation",
        "test_a_repeated_session_ends_with_its_key",
        "test_a_session_is_valid_for_five_minutes",
        "test_no_session_is_renewed_after_its_hour",
        "test_a_new_generation_ends_all_sessions",
        "test_a_revoked_token_counts_no_more_and_its_siblings_do",
        "test_all_is_revoked_at_once_for_good",
        "test_a_revocation_that_was_accepted_outlives_an_orderly_stop",
        "test_revocations_become_rows_and_unreadable_ones_stay",
        "test_revocations_survive_a_new_registration",
        "test_a_proof_answers_one_challenge",
    ),
    "the directory made to connect to where it should not": (
        "test_addresses_of_no_other_machine_are_never_probed",
        "test_a_private_address_is_probed_only_if_allowed",
        "test_only_a_literal_address_is_probed",
        "test_an_embedded_ipv4_address_is_judged_like_the_plain_one",
        "test_a_network_is_probed_at_most_once_in_ten_minutes",
    ),
    "nodes registered at a victim's address": (
        "test_an_address_is_observed_if_the_caller_has_it",
        "test_a_strict_directory_takes_no_address_of_another_network",
        "test_a_strict_directory_refuses_endpoints_of_other_networks",
    ),
    "silence feigned for others": (
        "test_nodes_that_nobody_vouches_for_are_not_watched",
        "test_attacker_in_one_small_part_darkens_no_wider_network",
        "test_attacker_names_a_region_of_its_own",
        "test_attacker_with_a_twentieth_of_the_nodes_darkens_nothing",
        "test_flood_of_networks_and_regions_stays_bounded",
        "test_one_sign_of_life_lets_the_clock_run",
    ),
    "learning when somebody is at home": (
        "test_strangers_are_told_no_hours_and_no_absences",
        "test_strangers_are_told_one_chance_in_both_places",
        "test_each_grade_is_told_as_a_value_within_it",
        "test_only_a_proof_shows_what_is_private",
        "test_nothing_is_remembered_of_a_node_that_wishes_so",
    ),
    "floods of registrations": (
        "test_ten_registrations_a_minute_from_one_address",
        "test_an_ipv6_64_is_one_caller_and_a_48_eight",
        "test_a_network_has_256_nodes_which_are_served",
        "test_new_nodes_are_limited_to_200_a_second",
        "test_heard_and_bound_nodes_stay_in_a_crowd",
        "test_nodes_never_heard_make_room_in_a_crowd",
        "test_held_nodes_never_make_room",
    ),
    "all nodes listed by one client": (
        "test_no_caller_can_page_through_all_nodes",
        "test_look_ups_count_as_discoveries_also_of_one_node",
        "test_names_of_hidden_and_forgotten_nodes_leave_the_log",
        "test_gone_hidden_and_unknown_nodes_look_equal_to_strangers",
        "test_a_hidden_node_is_answered_as_an_unknown_one",
        "test_a_node_that_hides_looks_gone_and_nothing_more_is_told_of_it",
        "test_hidden_and_unknown_nodes_look_equal_at_the_beginning_and_after_a_break",
        "test_a_hidden_node_is_in_no_lookup_and_no_discovery",
        "test_a_hidden_peer_is_unknown",
        "test_a_hidden_node_is_shown_to_no_caller",
    ),
    "a node's own limits used up by others": (
        "test_bad_proofs_cost_their_sender_and_not_the_node",
        "test_registering_a_foreign_name_uses_up_none_of_its_proofs",
        "test_strangers_cannot_use_up_the_quota_of_a_node",
        "test_strangers_cannot_keep_a_node_from_binding_its_key",
        "test_one_node_cannot_flush_what_is_known_of_another",
    ),
    "processor time taken by bad signatures": (
        "test_beyond_the_budget_no_signature_is_checked",
        "test_a_replay_is_charged_to_its_sender",
        "test_forged_tokens_are_checked_thirty_times_a_minute",
    ),
    "slow clients": (
        "test_two_hundred_slow_clients_delay_no_other",
        "test_later_head_has_ten_seconds_from_its_first_byte",
        "test_idle_connection_is_closed_after_75_seconds",
        "test_one_address_cannot_take_the_places_of_others",
        "test_ipv6_household_and_site_have_higher_caps",
    ),
    "requests made to take long": (
        "test_no_pattern_of_the_package_is_slow",
        "test_body_of_many_chunks_takes_turns",
        "test_pipeline_takes_turns",
        "test_list_of_too_many_members_is_refused",
    ),
    "requests that two readers take for different ones": (
        "test_decision_table_holds_however_the_bytes_are_cut",
        "test_next_request_is_served_only_if_the_connection_stays",
        "test_refusals_of_the_engine_are_problems_and_close",
    ),
    "JSON made to hurt": (
        "test_every_bad_body_is_answered_by_a_problem_document",
        "test_a_body_announced_as_too_large_is_refused_early",
    ),
    "somebody whom the operator has blocked": (
        "test_a_blocked_node_is_hidden_and_refused",
        "test_a_block_ends_what_was_granted_before_for_good",
        "test_what_nobody_registered_yet_is_kept_out",
        "test_another_key_or_address_in_the_network_is_no_way_around",
        "test_callers_from_a_blocked_network_are_refused",
        "test_only_a_trusted_proxy_names_the_caller",
        "test_fast_path_is_no_way_around_a_block",
        "test_blocks_stay_over_kill_export_import_and_restore",
        "test_blocks_hold_at_every_worker",
        "test_blocks_hold_at_every_instance",
    ),
    "memory filled up": (
        "test_a_million_addresses_keep_no_more_than_the_table_holds",
        "test_a_million_tokens_stay_within_bounds",
        "test_new_revocation_sweeps_few_expired_ones",
        "test_a_full_set_refuses_new_entries_and_forgets_none",
        "test_a_million_networks_stay_within_bounds",
        "test_the_seventeenth_within_a_minute_has_to_wait",
        "test_full_table_refuses_new_nodes_and_forgets_none",
        "test_the_table_of_networks_is_bounded",
        "test_unwanted_body_is_thrown_away_as_it_comes",
        "test_unread_bytes_of_all_connections_are_bounded",
        "test_a_full_byte_budget_refuses_new_nodes_and_longer_records",
        "test_ids_cannot_be_chosen_for_one_shard",
    ),
    "secrets guessed by timing": ("test_secrets_are_compared_in_constant_time",),
    "forged log lines, and secrets in the log": (
        "test_hostile_text_stays_within_its_line_and_is_cut",
        "test_request_lines_hold_public_facts_and_no_secrets",
        "test_every_line_of_a_json_log_is_json",
        "test_the_log_holds_no_secrets",
    ),
    "stolen keys of the directory": (
        "test_a_file_that_others_can_get_at_is_refused",
        "test_a_link_is_not_followed",
        "test_keys_are_encrypted_where_there_is_a_secret",
        "test_a_key_that_others_can_read_stops_the_start",
        "test_a_token_of_a_revoked_key_is_refused",
        "test_revoked_key_is_void_even_if_listed",
        "test_what_no_directory_issues_is_refused_at_any_time",
        "test_sign_keyset_shows_what_it_signs",
        "test_a_request_that_no_server_makes_is_not_signed",
    ),
    "operators' actions taken by others": (
        "test_none_of_it_answers_on_the_public_listener",
        "test_operators_need_the_secret",
        "test_none_of_it_is_on_the_public_side",
    ),
    "another user of the machine speaks to the leader as a worker": (
        "test_only_the_user_of_the_server_reaches_the_leader",
    ),
    "somebody speaks to an instance of a cluster as another one, or listens": (
        "test_another_secret_opens_nothing",
        "test_a_stranger_gets_nothing_but_the_end",
        "test_a_certificate_is_needed",
        "test_strangers_that_say_nothing_keep_no_instance_out",
        "test_an_instance_with_another_secret_is_refused",
        "test_any_other_certificate_is_refused_even_one_that_the_key_signed",
        "test_an_older_tls_is_refused",
        "test_no_request_goes_to_an_instance_with_another_secret",
    ),
    "somebody reads the database of a cluster, or exchanges values in it": (
        "test_a_value_opens_with_no_other_secret",
        "test_two_values_cannot_be_exchanged_for_each_other",
        "test_no_change_goes_unnoticed",
        "test_the_database_shows_no_secret",
        "test_whoever_writes_to_the_database_puts_no_secret_in",
    ),
    "pages of other origins": (
        "test_no_page_of_another_origin_changes_anything",
        "test_pages_of_any_origin_may_read_but_not_write",
        "test_pages_under_a_foreign_host_name_read_nothing",
    ),
    "a forged client address": (
        "test_an_untrusted_forwarding_header_is_ignored",
        "test_right_most_untrusted_address_is_the_client",
        "test_without_trusted_proxies_nothing_is_believed",
        "test_forwarded_addresses_of_clients_are_not_trusted",
        "test_nobody_else_is_believed_who_the_client_is",
        "test_nobody_can_forge_whom_a_request_comes_from",
    ),
    "a signature made for something else": (
        "test_a_signature_of_another_purpose_is_refused",
        "test_a_mac_of_another_purpose_is_refused",
        "test_a_signature_for_another_use_is_no_token",
        "test_what_is_signed_is_no_token_and_no_request",
        "test_signature_for_another_use_is_refused",
    ),
}


def threats(document: str) -> list[str]:
    """Return the first column of the table of threats."""
    _, _, table = document.partition("| threat | measure |\n|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()
    return [row.strip("|").partition("|")[0].strip() for row in rows]


@cache
def names() -> frozenset[str]:
    """Return the names of all tests."""
    trees = [ast.parse(source) for source in sources(ROOT / "tests").values()]
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for tree in trees for node in tree.body if isinstance(node, functions))


def test_every_threat_has_tests_and_every_entry_is_a_threat() -> None:
    assert threats(documents()["openred_central/docs/security-model.md"]) == list(TESTS)


@pytest.mark.parametrize("threat", TESTS)
def test_every_test_of_the_index_is_there(threat: str) -> None:
    assert TESTS[threat]
    expect_none(f"there is no test {name}" for name in TESTS[threat] if name not in names())


def test_rows_are_found_in_a_table() -> None:
    assert threats("x\n| threat | measure |\n|---|---|\n| a | b |\n| c d | e |\n\nmore | x |") == ["a", "c d"]
