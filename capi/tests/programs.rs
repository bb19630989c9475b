//! Programs in C and C++ against `libkvma` and its headers. Each `TEST` in a program is a test
//! here, run in a process of its own; a program that has others than are listed here fails.
//!
//! `KVMA_SKIP_CC=1` goes without compilers.

mod cc;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use self::cc::{Link, Program};

/// Compiles a program once, and runs one of its tests.
fn check(cell: &OnceLock<Result<PathBuf, String>>, source: &str, flags: &[&str], test: &str) {
    if cc::skipped() {
        return;
    }
    let executable = cell.get_or_init(|| {
        let source = cc::root().join("tests").join(source);
        cc::compile(&Program { source: &source, link: Link::Static, flags })
    });
    let executable = executable.as_ref().unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = cc::run(Command::new(executable).arg(test)) {
        panic!("{error}");
    }
}

macro_rules! program {
    ($name:ident, $source:literal, $flags:expr, [$($test:ident),* $(,)?]) => {
        mod $name {
            use super::*;

            static EXECUTABLE: OnceLock<Result<PathBuf, String>> = OnceLock::new();

            $(#[test]
            fn $test() {
                check(&EXECUTABLE, $source, $flags, stringify!($test));
            })*

            #[test]
            fn lists_all_its_tests() {
                if cc::skipped() {
                    return;
                }
                check(&EXECUTABLE, $source, $flags, "--list");
                let Some(Ok(executable)) = EXECUTABLE.get() else { return };
                let listed = cc::run(Command::new(executable).arg("--list"));
                let listed = listed.unwrap_or_else(|e| panic!("{e}"));
                let here = [$(stringify!($test)),*];
                let missing: Vec<_> = listed.lines().filter(|test| !here.contains(test)).collect();
                assert!(missing.is_empty(), "not run: {missing:?}");
            }
        }
    };
}

program!(
    map,
    "c/map.c",
    &[],
    [
        maps_finds_and_unmaps,
        tells_about_the_space,
        places_as_searched_for,
        walks_vmas_pieces_and_gaps,
        changes_attributes,
        splits_and_merges_by_hand,
        huge_pages_refuse_to_be_split,
        relocates,
        remaps_over_itself,
        forks_and_restores,
        reserves_commits_and_locks,
        adopts,
        the_library_has_the_version_of_the_header,
        statuses_have_words,
    ]
);

program!(
    guest,
    "c/guest.c",
    &[],
    [
        slots_come_and_go_whole,
        faults_are_answered,
        blocks_are_as_large_as_can_be,
        parts_of_slots_change,
        a_bar_moves_over_itself,
        the_host_finds_who_shows_its_memory,
        dirty_pages_are_taken_in_chunks,
        walks_see_every_region_and_slot,
        refusals_of_hooks_and_wrong_input_change_nothing,
    ]
);

program!(
    hooks,
    "c/hooks.c",
    &[],
    [
        every_step_is_heard_in_order,
        a_refusal_takes_everything_back,
        a_hook_that_calls_back_is_answered_busy,
        an_update_carries_several_changes,
        vmas_move_to_another_map,
        write_xor_execute,
        a_fork_of_a_running_program_is_flushed,
    ]
);

program!(
    user_data,
    "c/user_data.c",
    &[],
    [
        user_data_is_never_lost_or_dropped_twice,
        claims_are_committed_or_released,
        a_fixed_mapping_takes_a_claim_away,
        what_is_removed_is_released_in_order,
        user_data_is_made_for_the_range_that_was_chosen,
        user_data_hears_of_moves,
    ]
);

program!(
    memory,
    "c/memory.c",
    &["-pthread"],
    [
        no_operation_changes_anything_without_memory,
        a_fork_without_memory_has_copied_nothing,
        making_a_map_fails_cleanly,
        taking_down_needs_no_memory,
        libmmap_operations_change_nothing_without_memory,
        a_handle_keeps_nodes_from_one_call_to_the_next,
        without_memory_to_remember_marks_still_hold,
        a_missing_lock_is_busy,
    ]
);

program!(
    misuse,
    "c/misuse.c",
    &[],
    [
        misaligned_memory_is_no_memory,
        a_release_that_fails_keeps_the_claim,
        null_is_a_status,
        numbers_at_the_edges,
        libmmap_numbers_at_the_edges,
        libmmap_null_is_an_error,
    ]
);

program!(
    tables,
    "c/tables.c",
    &["-D_GNU_SOURCE"],
    [allocators, functions_for_user_data, hooks, kernels, files]
);

program!(
    wrapper,
    "cpp/wrapper.cpp",
    &[],
    [
        handles_free_themselves_once,
        a_failure_leaves_an_empty_handle,
        statuses_have_words,
        maps_are_changed_and_walked,
        mappings_move_with_and_without_their_pages,
        moved_mappings_may_get_other_attributes,
        random_places_follow_from_their_numbers,
        an_update_ends_with_its_object,
        a_map_that_is_in_use_is_not_freed,
        processes_call_and_fork,
    ]
);

program!(
    teardown,
    "c/teardown.c",
    &["-D_GNU_SOURCE"],
    [
        an_update_is_busy_while_it_is_finished,
        a_map_is_busy_while_it_is_freed,
        a_map_is_busy_while_its_memory_goes,
        calls_and_processes_are_busy_while_they_are_freed,
        a_callback_cannot_destroy_the_space_that_calls_it,
    ]
);

program!(
    seeds_c,
    "c/seeds.c",
    &[],
    [c_api_without_a_hint, c_api_with_a_hint, the_name_is_still_a_function,]
);

program!(
    seeds_cpp,
    "cpp/seeds.cpp",
    &[],
    [range_map, addr_space_without_a_hint, addr_space_with_a_hint, all_methods,]
);

program!(
    all_headers,
    "cpp/all_headers.cpp",
    &[],
    [files_are_descriptors_or_pointers, map_any_is_overloaded, all_generations_at_once,]
);

program!(
    peers_mm,
    "c/peers_mm.c",
    &["-Wl,--wrap=aligned_alloc"],
    [
        the_marked_state_comes_back,
        without_memory_nothing_changes,
        files_may_be_pointers,
        without_a_file_there_is_no_offset_to_advance,
        the_names_are_still_functions,
        query_of_a_range_as_before_querypage,
        a_split_advances_the_file_offset,
        a_split_advances_the_file_offset_in_bytes,
        a_split_of_anonymous_memory_has_no_offset_to_advance,
        mappings_are_kept_apart_and_know_their_base,
        unmap_of_a_gap_is_fine,
        zero_length_is_refused,
        a_length_near_2_to_the_64_is_refused,
        addresses_beyond_the_space_are_refused,
        callbacks_get_bytes,
        callbacks_get_the_old_state,
        replacing_the_middle_of_a_mapping_is_told,
        overlapping_a_gap_maps_the_gap_too,
        protect_over_a_gap_changes_nothing,
        protect_and_back_leaves_one_region,
        placement_is_first_fit,
    ]
);

program!(
    peers_cpp,
    "cpp/peers.cpp",
    &["-pthread"],
    [
        a_split_advances_the_file_offset,
        offsets_below_a_page_are_kept,
        contiguous_file_ranges_merge,
        ranges_with_equal_offsets_do_not_merge,
        equal_anonymous_ranges_merge,
        protect_over_a_gap_is_an_error,
        addresses_beyond_the_space_are_refused,
        a_length_near_2_to_the_64_is_refused,
        the_marked_state_comes_back,
        without_a_mark_everything_goes,
        what_a_callback_throws_arrives_and_nothing_has_changed,
        a_callback_may_look_and_change,
        spaces_are_values,
        all_of_prot_and_flags_is_kept,
        placement_is_first_fit_from_the_bottom,
        neighbours_that_become_equal_are_one_region,
        aslr_places_at_random,
        aslr_in_c_places_all_that_fits,
        a_failed_allocation_loses_nothing,
        many_threads_may_look_at_once,
    ]
);

program!(
    range_map,
    "cpp/range_map.cpp",
    &["-Wl,--wrap=aligned_alloc"],
    [
        integers_of_every_kind,
        keys_that_are_no_numbers,
        the_whole_range_of_a_key,
        ranges_that_are_none,
        values_are_copied_and_compared_by_their_own_rules,
        a_copy_that_throws_changes_nothing,
        a_comparison_that_throws_arrives,
        out_of_memory_changes_nothing,
    ]
);

program!(
    linux,
    "c/linux.c",
    &["-D_GNU_SOURCE"],
    [
        maps_protects_and_unmaps_as_linux_does,
        files_are_counted_and_listed,
        shared_memory_is_the_kernels,
        files_have_flags_restrictions_and_seals,
        segments_are_attached_and_detached,
        a_processor_without_protection_keys_has_none,
        the_heap_and_the_stack,
        moves_locks_seals_and_advises,
        forks,
        faults,
        names_keys_and_policy,
        no_memory_is_enomem,
        null_is_a_status,
        charges_and_limits_by_how_large_a_process_is,
    ]
);

program!(
    linux_look,
    "c/linux_look.c",
    &["-D_GNU_SOURCE"],
    [
        walks_from_above_and_gaps,
        settings_are_read_back,
        roles_of_files,
        faults_are_checked_without_a_change,
        lines_of_maps_files_are_read,
        flags_have_letters,
        unserved_calls_say_why,
        huge_pages_are_the_kernels,
    ]
);

program!(
    random_map,
    "c/random_map.c",
    &[],
    [maps_stay_whole_and_data_is_dropped_once, up_to_the_last_byte,]
);

program!(
    random_linux,
    "c/random_linux.c",
    &["-D_GNU_SOURCE"],
    [counts_stay_right_and_references_are_given_up,]
);

program!(
    model,
    "cpp/model.cpp",
    &[],
    [pages_of_4096_bytes, pages_of_one_byte, from_address_zero, pages_of_a_gigabyte]
);
