"""Bad input gives one sentence, before anything long starts, and leaves earlier files as they were: the whole list.

| What is bad                                                                     | Tested by
|---------------------------------------------------------------------------------|----------------------------------------------------------------------------------
| a misspelt parameter                                                            | test_params.py::test_a_misspelt_parameter_is_named_with_its_neighbour
| ... in the real notebook, and earlier files stay                                | test_bad_input.py::test_the_real_notebook_stops_at_its_second_cell_and_leaves_earlier_files_as_they_were
| ... through papermill                                                           | test_bad_input.py::test_papermill_with_a_misspelt_parameter_fails_in_one_sentence
| a wrong type, out of range, an unknown backbone, dataset, device or inject      | test_params.py::test_a_value_that_cannot_be_is_refused_and_says_what_to_pass
| ... without check, of a training                                                | test_fit.py::test_values_out_of_range_are_refused_before_anything_runs
| ... of a backbone or device                                                     | test_loading.py::test_unknown_names_devices_and_types_are_refused
| ... of inject, and parts that do not go together                                | test_arms.py::test_misuse_is_refused_in_one_sentence
| no error: 0 epochs evaluate only                                                | test_fit.py::test_no_epochs_evaluate_only_and_frozen_parameters_stay
| `cuda` where there is none                                                      | test_params.py::test_a_device_that_is_not_there_is_refused_and_a_gpu_is_taken
| data_root missing                                                               | test_params.py::test_data_root_must_be_there_and_fit_the_dataset
| ... or a file, or empty; a dataset that is none                                 | test_datasets.py::test_a_name_split_limit_or_data_root_that_cannot_be_is_refused
| ... without photo/ or sketch/, or whose classes do not meet                     | test_datasets.py::test_folder_without_photos_without_sketches_or_with_classes_that_do_not_meet
| ... in Sketchy's layout                                                         | test_datasets.py::test_sketchy_layout_errors_say_what_was_found
| an image truncated, empty, none, of 1 px, enormous                              | test_images.py::test_unusable_file_gives_one_sentence
| ... each of them in a dataset, and a mask                                       | test_bad_input.py::test_a_broken_image_or_mask_is_found_before_any_work
| a name that is not ASCII                                                        | test_images.py::test_a_name_need_not_be_ascii_nor_its_extension_true
| ... of classes and files                                                        | test_datasets.py::test_names_that_are_not_ascii_and_come_composed_or_not
| ... of folders                                                                  | test_params.py::test_good_values_come_back_resolved_and_are_printed_with_time_and_memory
| ... of all of them, and of what is written                                      | test_masks.py::test_every_photo_gets_its_files_under_its_own_letters_whatever_the_batches
| weights truncated, of another shape                                             | test_loading.py::test_a_folder_that_is_cut_or_does_not_fit_together_is_refused
| ... with another hash                                                           | test_loading.py::test_every_file_that_is_read_is_sealed
| output_dir not writable, or full                                                | test_params.py::test_output_dir_must_be_writable_with_room_and_its_files_stay
| ... full only later, while an index, a figure, a drawing or results are written | test_files.py::test_a_full_disk_asks_for_room_and_an_interruption_too_leaves_the_earlier_file
| a notebook interrupted half way                                                 | test_bad_input.py::test_results_are_written_in_the_last_cell_alone
| ... while masks are written                                                     | test_masks.py::test_an_interrupted_run_leaves_the_earlier_files_whole
| ... while it is executed                                                        | test_notebooks.py::test_execute_leaves_a_failing_notebook_as_it_was
| no error: EXIF                                                                  | test_images.py::test_of_exif_the_orientation_alone_counts_and_the_size_is_known_from_the_header
| no error: RGBA, grey, 16 bits, a palette, CMYK                                  | test_images.py::test_transparency_is_white_or_mixes_deep_grey_is_scaled_and_cmyk_is_kept
| no error: one photo, one sketch                                                 | test_datasets.py::test_single_photo_or_single_sketch_of_a_class_works_and_many_are_parted
| ... in any shape                                                                | test_masks.py::test_a_single_photo_of_any_shape_and_a_single_sketch_work
| skip_broken                                                                     | test_datasets.py::test_broken_images_are_named_counted_and_skipped_only_if_asked
| an empty drawing, or one dot                                                    | test_drawing.py::test_what_cannot_be_drawn_is_refused_in_one_sentence
| ... on the pad                                                                  | test_widgets.py::test_a_dot_is_kept_and_said_and_an_empty_paper_shows_no_old_answer
| ... larger than the canvas                                                      | test_drawing.py::test_what_is_larger_than_the_paper_can_be_fitted_with_a_margin
| ... drawn beyond it                                                             | test_sketchpad.py::test_a_stroke_beyond_the_edge_is_cut_and_one_beside_the_paper_is_no_step
| no error: a pair of two sizes                                                   | test_explorers.py::test_every_control_changes_the_picture_and_update_from_code_does_the_same_but_draws_once
| a prompt of 500 words                                                           | test_backbones.py::test_a_prompt_is_read_as_a_whole_or_refused_never_cut
| a timestep not in the scheduler                                                 | test_backbones.py::test_images_of_another_shape_or_range_and_settings_that_cannot_be_are_refused
| ... each in the widget                                                          | test_explorers.py::test_a_failing_update_says_so_in_one_sentence_and_changes_nothing
| a prompt of unknown words                                                       | test_explorers.py::test_long_work_says_so_first_and_a_prompt_names_the_class_and_what_is_strange
| no error: a gallery of one photo                                                | test_widgets.py::test_a_gallery_of_one_photo_works
| no error: of 5,000 photos                                                       | test_search_gallery.py::test_five_thousand_photos_are_never_in_memory_together
| a gallery without photos                                                        | test_search_gallery.py::test_a_folder_without_photos_is_said_in_one_sentence
| a file that is no SVG or no ndjson, or hostile                                  | test_drawing.py::test_a_file_that_is_none_or_hostile_is_refused_in_one_sentence
| ... of 100 MB                                                                   | test_drawing.py::test_other_places_suffixes_100_megabytes_and_what_takes_long_are_refused_in_one_sentence
| ... opened on the pad                                                           | test_sketchpad.py::test_files_are_saved_and_loaded_from_code_and_through_the_page
| a hostile page                                                                  | test_sketchpad.py::test_what_is_wrong_with_a_message_is_said_in_one_sentence_and_nothing_is_lost
| trained layers of another backbone or task                                      | test_results.py::test_what_is_not_there_or_in_the_way_and_a_head_of_another_backbone_or_task_are_refused
| ... of something else or another configuration, or cut                          | test_results.py::test_a_head_that_is_damaged_of_another_version_or_does_not_fit_its_description_is_refused
| an index of another backbone or version                                         | test_search_gallery.py::test_an_index_of_another_backbone_or_version_is_refused_and_made_anew_in_its_place
| ... or another head                                                             | test_search_gallery.py::test_a_trained_retriever_may_embed_and_another_one_is_refused
| ... cut, or no index                                                            | test_search_gallery.py::test_a_file_that_is_no_whole_index_is_refused
| ... whose photos have moved                                                     | test_search_gallery.py::test_photos_that_have_moved_are_found_again_by_their_new_root
| test data in training (backbone)                                                | test_toyworld.py::test_no_training_picture_is_in_a_data_set_or_shows_anything_of_an_unseen_category
| a checkpoint of another training                                                | test_resume.py::test_a_checkpoint_is_safetensors_that_name_what_made_it_and_another_training_is_refused_by_what_differs
| ... of something else, or broken                                                | test_resume.py::test_a_broken_checkpoint_or_one_of_another_version_is_refused_in_one_sentence
| ... with other images                                                           | test_splits.py::test_a_training_does_not_go_on_with_other_images_under_the_same_names
| a training killed at any moment                                                 | test_resume.py::test_killed_at_ten_random_moments_it_ends_with_the_numbers_of_the_run_that_was_left_alone
| ... its disk full                                                               | test_resume.py::test_killed_or_short_of_disk_while_it_writes_a_checkpoint_it_goes_on_from_a_whole_one
| ablations killed half way                                                       | test_ablations.py::test_a_run_that_was_killed_goes_on_and_ends_with_the_same
| ... kept with other settings                                                    | test_ablations.py::test_what_was_kept_with_other_settings_is_refused
| keypoints outside, too few, of a category that is not there                     | test_splits.py::test_a_row_that_cannot_be_is_told_with_its_line
| no error: hidden ones                                                           | test_splits.py::test_x_is_horizontal_and_hidden_points_are_empty_and_not_visible
| ... of files that are not there, given twice, of another photo                  | test_splits.py::test_a_table_that_cannot_be_or_is_not_there_is_refused
| ... of images that are not square                                               | test_correspondence.py::test_images_that_are_not_square_or_no_pair_are_refused
| ... two photos for three parts                                                  | test_splits.py::test_a_split_that_is_not_there_a_limit_below_0_and_60_40_of_two_photos_are_refused
| parts that share an image file, of every task                                   | test_splits.py::test_a_test_image_under_another_name_in_training_is_refused
| an ndjson line that is bad                                                      | test_quickdraw.py::test_a_line_that_is_cut_empty_no_drawing_or_repeated_is_named_and_skipped_only_if_asked
| ... of 5 MB                                                                     | test_quickdraw.py::test_an_enormous_line_is_refused_without_reading_it_whole
| ... a folder without any                                                        | test_quickdraw.py::test_a_folder_without_drawings_says_what_was_found
| ... too few, or no such split                                                   | test_quickdraw.py::test_more_drawings_than_there_are_and_splits_that_are_none_fail
| ... changed while it is used                                                    | test_quickdraw.py::test_a_file_changed_after_it_was_read_is_noticed
| 1 class to recognise, too many shots, nothing to test on                        | test_recognition.py::test_misuse_is_refused_in_one_sentence
| splits that overlap, a class not there, a gallery without a query's             | test_splits.py::test_splits_that_overlap_are_too_small_or_name_what_is_not_there_are_refused
| copies in the gallery                                                           | test_splits.py::test_copies_in_the_gallery_are_counted_and_left_out_and_their_sketches_keep_their_photo
| 1 class, 1 image a class                                                        | test_splits.py::test_one_class_and_one_image_a_class
| ... in training                                                                 | test_retrieval.py::test_what_cannot_be_trained_is_refused_in_one_sentence
| no error: 1 image a class                                                       | test_retrieval.py::test_loss_and_gradients_are_those_by_hand_and_nothing_without_a_triplet
| an encoder's wrong weights                                                      | test_backbones.py::test_an_encoders_wrong_files_and_names_are_refused_in_one_sentence
| a scenario misspelt, or with too few data sets                                  | test_scenarios.py::test_what_cannot_be_split_is_refused_in_one_sentence
| ... a class with one photo where a negative of the same class is needed         | test_scenarios.py::test_what_cannot_be_split_is_refused_in_one_sentence
| ... a test class that is trained on                                             | test_scenarios.py::test_across_data_sets_a_class_trained_on_under_any_spelling_is_not_tested
| ... of the published lists                                                      | test_scenarios.py::test_the_published_cross_dataset_classes_are_refused_where_one_of_them_is_trained_on
| a convolutional tower asked for token prompts                                   | test_drclip.py::test_a_tower_without_a_class_token_to_read_is_refused
| a class name that the tokenizer cuts, a gallery smaller than k                  | test_drclip.py::test_a_class_name_that_the_tokenizer_cuts_and_a_gallery_smaller_than_k_are_refused
| losses, prompts and settings of Dr. CLIP that cannot be                         | test_drclip.py::test_settings_that_cannot_be_are_refused_in_one_sentence
| ... its training stopped                                                        | test_drclip.py::test_a_run_that_was_stopped_goes_on_and_ends_with_the_same
| a frame wider than half the image, a level the UNet lacks, zero draws            | test_matchmaker.py::test_what_cannot_be_is_refused_in_one_sentence
| its training stopped, and gone on with other settings                           | test_matchmaker.py::test_a_training_that_was_stopped_goes_on_to_the_same_end
| a dataset root one level too high or too low: found and said                    | test_published.py::test_a_root_too_high_or_too_low_is_found_and_said
| ... of drawings                                                                 | test_published.py::test_drawings_too_are_found_below
| ... far away, or with half of a dataset                                         | test_published.py::test_a_root_far_away_or_half_of_a_data_set_elsewhere_is_not_taken
| a published dataset that is damaged, cut short or mixed up                      | test_doctor.py::test_every_trap_is_told_in_a_sentence_and_ends_with_1
| no error: mixed case, Unicode forms, published misspellings                     | test_doctor.py::test_what_looks_odd_and_is_published_so_is_no_complaint
| no sketch of a photo where the very photo is asked for                          | test_retrieval.py::test_a_sketch_asks_for_single_photos_only_where_its_own_is_there
| very many files in a folder                                                     | test_published.py::test_the_doctors_memory_does_not_grow_with_the_files_of_a_folder
| Quick, Draw! in packed files that are cut                                       | test_packed.py::test_files_cut_anywhere_tell_the_drawing_and_keep_those_before_it
| ... or with a pickle that would run something                                   | test_packed.py::test_a_pickle_runs_nothing_and_whatever_no_drawing_needs_is_refused
| an archive with `..` or absolute paths                                          | test_archives.py::test_a_member_that_would_leave_the_folder_stops_all
| ... with links, devices, names that differ in case alone                        | test_archives.py::test_links_devices_and_names_that_differ_in_case_alone_are_refused
| ... that is a bomb                                                              | test_archives.py::test_a_bomb_is_refused_before_it_fills_the_disk
| ... cut, or none                                                                | test_archives.py::test_what_is_cut_or_no_archive_is_told
| a download cut at any byte                                                      | test_archives.py::test_a_fetch_cut_at_any_byte_goes_on_there
| ... of another checksum or length                                               | test_archives.py::test_another_checksum_or_length_is_told_and_nothing_is_kept
| a download that no licence allows                                               | test_archives.py::test_only_what_a_licence_allows_is_fetched
"""  # noqa: E501  names of tests are as long as what they claim

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch

from sfhelpers import results
from sfhelpers.datasets import load_dataset
from tests.backbone_fixtures import files, refused
from tests.cells import cells
from tests.test_images import UNUSABLE
from tests.test_results import make
from tools.notebooks import FOLDER, papermill

NOTEBOOK = FOLDER / "04_segmentation.ipynb"
CODE = [cell.source for cell in cells("04_segmentation") if cell.cell_type == "code"]


def test_every_test_named_above_is_there():
    named = re.findall(r"(test_\w+\.py)::(test_\w+)", __doc__)
    assert len(named) > 40
    for file, name in named:
        tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


@pytest.mark.parametrize(("content", "words"), UNUSABLE, ids=range(len(UNUSABLE)))
@pytest.mark.parametrize("place", ["photo/cat/b.jpg", "sketch/cat/s2.png", "mask/cat/a.png"])
def test_a_broken_image_or_mask_is_found_before_any_work(own, place, content, words):
    path = own / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    before = files(own)
    with refused(words) as error:
        load_dataset("folder", own)
    assert all(said in str(error.value) for said in (place, "skip_broken=True", str(own)))
    with pytest.warns(UserWarning, match=f"1 of 10 .*{re.escape(place)}"):
        assert len(load_dataset("folder", own, skip_broken=True).records) == 9
    assert files(own) == before


SLIPS = [
    *({"epoch": 3}, {"epochs": "ten"}, {"epochs": -1}, {"skip_broken": "true"}, {"learning_rate": float("nan")}),
    *({"backbone": "pockett"}, {"device": "cuda"}, {"dataset": "folder", "data_root": "nowhere"}),
]


@pytest.mark.parametrize("slip", SLIPS, ids=str)
def test_the_real_notebook_stops_at_its_second_cell_and_leaves_earlier_files_as_they_were(tmp_path, monkeypatch, slip):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    results.write([make()], tmp_path / "out" / "results.json")
    before = files(tmp_path)
    parameters, check, *_ = CODE
    namespace = {}
    exec(parameters, namespace)
    with refused(kind=(ValueError, TypeError, RuntimeError, OSError)):
        exec(check, namespace | {"output_dir": str(tmp_path / "out")} | slip)
    assert "params.check(" in check and files(tmp_path) == before


def test_papermill_with_a_misspelt_parameter_fails_in_one_sentence(tmp_path):
    """Papermill itself only warns of an unknown name; the notebook must stop, non-zero, with nothing written."""
    out = tmp_path / "out"
    results.write([make()], out / "results.json")
    before = files(out)
    given = {"epoch": "20", "output_dir": str(out)}
    outcome = papermill(NOTEBOOK, tmp_path / "executed.ipynb", given, {"CUDA_VISIBLE_DEVICES": ""})
    assert outcome.result.startswith("failed: ValueError: ")
    said = outcome.result.removeprefix("failed: ValueError: ")
    assert "'epoch'" in said and "use epochs" in said and said.endswith(".") and ". " not in said
    assert files(out) == before
    executed = [c for c in nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells if c.get("execution_count")]
    assert "params.check(" in executed[-1].source, "nothing after the check was run"


def test_results_are_written_in_the_last_cell_alone():
    """So a notebook that is interrupted anywhere before leaves the earlier results.json as it was."""
    *earlier, last = CODE
    assert "results.write(" in last and not [source for source in earlier if "results.write(" in source]
    assert "results.json" in last
